//! A container's side, and traffic through all of it.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
};

use bascule::kernel::{
    Error, Outcome,
    container::{self, Interface},
    netlink::{Netlink, PortFlags},
};
use bascule_tests::Netns;

use crate::{Bridge, Veth, block_on, id, namespace};

fn interface(host_index: u32) -> Interface {
    Interface {
        temporary: "bspbbbbbbbb".into(),
        name: "eth0".into(),
        host_index,
        mac: Veth::MAC,
        mtu: 1400,
        addresses: vec!["10.200.0.2/24".parse().unwrap()],
        gateways: vec!["10.200.0.1".parse().unwrap()],
        names: None,
    }
}

/// A bridge with one container behind it; the index of the host end.
async fn attach(host: &Netns, inside: &Netns) -> u32 {
    let (bridge, veth) = (Bridge::of(&id('a')), Veth::of(&id('b'), inside));
    let netlink = Netlink::open_in(&namespace(host)).await.unwrap();
    let (master, _) = netlink.create_bridge(&bridge.wanted(1500)).await.unwrap();
    netlink.add_address(master, "10.200.0.1/24".parse().unwrap()).await.unwrap();
    netlink.set_up(master, true).await.unwrap();
    let (port, _) = netlink.create_veth(&veth.wanted()).await.unwrap();
    netlink.set_master(port, Some(master)).await.unwrap();
    let flags = PortFlags { learning: false, unicast_flood: false, hairpin: false };
    netlink.set_port_flags(port, flags).await.unwrap();
    netlink.set_fdb(port, Veth::MAC).await.unwrap();
    let address = "10.200.0.2".parse().unwrap();
    netlink.set_neighbour(master, address, Veth::MAC).await.unwrap();
    netlink.set_up(port, true).await.unwrap();
    port
}

#[test]
fn s67_the_far_end_becomes_eth0_and_carries_traffic() {
    let (host, inside) = (Netns::new("host"), Netns::new("inside"));
    block_on(async {
        let port = attach(&host, &inside).await;
        let within = Netlink::open_in(&namespace(&inside)).await.unwrap();
        let bare = container::observe(&within).await.unwrap();
        assert!(!container::is_configured(&bare, &interface(port)));
        let index = container::configure(&within, &interface(port)).await.unwrap();
        let first = container::observe(&within).await.unwrap();
        let again = container::configure(&within, &interface(port)).await.unwrap();
        assert_eq!(again, index);
        let second = container::observe(&within).await.unwrap();
        assert!(container::is_configured(&second, &interface(port)));
        assert_eq!(
            (first.addresses, first.routes),
            (second.addresses.clone(), second.routes.clone())
        );

        let eth0 = second.links.iter().find(|link| link.index == index).unwrap();
        assert_eq!((eth0.name.as_str(), eth0.mac, eth0.mtu), ("eth0", Some(Veth::MAC), 1400));
        assert!(eth0.up && second.links.iter().any(|link| link.loopback && link.up));
        assert!(second.routes.iter().any(|route| route.is_default()));
    });
    let listener = inside.run(|| TcpListener::bind("10.200.0.2:7")).unwrap();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"through").unwrap();
    });
    let mut heard = String::new();
    let mut stream = host.run(|| TcpStream::connect("10.200.0.2:7")).unwrap();
    stream.read_to_string(&mut heard).unwrap();
    assert_eq!(heard, "through");
    server.join().unwrap();
}

#[test]
fn what_is_half_set_up_or_has_changed_is_set_right() {
    let (host, inside) = (Netns::new("host"), Netns::new("inside"));
    block_on(async {
        let port = attach(&host, &inside).await;
        inside.sh("ip link set bspbbbbbbbb up");
        inside.sh("ip addr add 10.200.0.77/24 dev bspbbbbbbbb");
        let within = Netlink::open_in(&namespace(&inside)).await.unwrap();
        container::configure(&within, &interface(port)).await.unwrap();
        let addresses: Vec<_> = inside.addresses("eth0").into_iter().map(|(ip, _)| ip).collect();
        let added = [77, 2].map(|last| std::net::Ipv4Addr::new(10, 200, 0, last));
        assert_eq!(addresses, added, "what someone added inside stays");
        inside.sh("ip link set eth0 address 02:00:00:00:00:09 mtu 1200 down");
        assert!(!container::is_configured(
            &container::observe(&within).await.unwrap(),
            &interface(port)
        ));
        container::configure(&within, &interface(port)).await.unwrap();
        assert_eq!(inside.mac("eth0"), Veth::MAC);
        assert!(inside.sh("ip route").contains("default via 10.200.0.1 dev eth0"));
    });
}

#[test]
fn an_interface_that_is_not_ours_is_left_alone() {
    let (host, inside) = (Netns::new("host"), Netns::new("inside"));
    inside.sh("ip link add eth0 type bridge");
    block_on(async {
        let port = attach(&host, &inside).await;
        let within = Netlink::open_in(&namespace(&inside)).await.unwrap();
        let error = container::configure(&within, &interface(port)).await.unwrap_err();
        assert!(matches!(error, Error::Foreign { .. }), "{error}");
        assert!(container::remove(&within, "eth0").await.is_err());
        assert!(inside.interfaces().contains(&"eth0".to_owned()));
    });
}

#[test]
fn an_interface_is_removed_with_its_host_end() {
    let (host, inside) = (Netns::new("host"), Netns::new("inside"));
    block_on(async {
        let port = attach(&host, &inside).await;
        let within = Netlink::open_in(&namespace(&inside)).await.unwrap();
        container::configure(&within, &interface(port)).await.unwrap();
        assert_eq!(container::remove(&within, "eth0").await.unwrap(), Outcome::Done);
        assert_eq!(container::remove(&within, "eth0").await.unwrap(), Outcome::Already);
    });
    assert_eq!(inside.interfaces(), ["lo"]);
    assert_eq!(host.interfaces().len(), 2, "lo and the bridge");
}
