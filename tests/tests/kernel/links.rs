//! Bridges, veths, addresses, routes, neighbours.

use std::net::IpAddr;

use bascule::kernel::{
    Error, Outcome,
    netlink::{LinkKind, Netlink, PortFlags, Route, Scope, mtu_of_default_route},
    owned::Owned,
};
use bascule_tests::Netns;

use crate::{Bridge, Veth, block_on, id, mark, namespace};

#[test]
fn a_bridge_is_made_marked_and_made_again() {
    let host = Netns::new("bridge");
    let new = Bridge::of(&id('a'));
    block_on(async {
        let netlink = Netlink::open_in(&namespace(&host)).await.unwrap();
        let (index, outcome) = netlink.create_bridge(&new.wanted(1400)).await.unwrap();
        assert_eq!(outcome, Outcome::Done);
        assert_eq!(
            netlink.create_bridge(&new.wanted(1400)).await.unwrap(),
            (index, Outcome::Already)
        );

        let links = netlink.links().await.unwrap();
        let bridge = links.iter().find(|link| link.name == "br-aaaaaaaaaaaa").unwrap();
        assert_eq!(netlink.link_named(&new.name).await.unwrap().as_ref(), Some(bridge));
        assert_eq!((bridge.index, &bridge.kind, bridge.up), (index, &LinkKind::Bridge, false));
        assert_eq!((bridge.mtu, bridge.mac, bridge.ethernet), (1400, Some(Bridge::MAC), true));
        let owned = mark().recognise(&bridge.name, bridge.alias.as_deref(), bridge.mac);
        assert_eq!(owned, Some(Owned::Bridge(id('a'))));
        assert!(host.sh("ip -d link show br-aaaaaaaaaaaa").contains("stp_state 0"));

        netlink.set_up(index, true).await.unwrap();
        assert!(netlink.link_named(&new.name).await.unwrap().unwrap().up);
        assert_eq!(netlink.delete_link(index).await.unwrap(), Outcome::Done);
        assert_eq!(netlink.delete_link(index).await.unwrap(), Outcome::Already);
        assert_eq!(netlink.link_named(&new.name).await.unwrap(), None);
    });
}

#[test]
fn a_foreign_bridge_of_the_same_name_is_never_touched() {
    let host = Netns::new("foreign");
    let new = Bridge::of(&id('a'));
    for alias in ["", "alias Dockers"] {
        host.sh("ip link add br-aaaaaaaaaaaa type bridge");
        host.sh(&format!("ip link set br-aaaaaaaaaaaa mtu 1450 {alias}"));
        let before = host.sh("ip -d link show br-aaaaaaaaaaaa");
        block_on(async {
            let netlink = Netlink::open_in(&namespace(&host)).await.unwrap();
            let error = netlink.create_bridge(&new.wanted(1400)).await.unwrap_err();
            assert!(matches!(error, Error::Foreign { .. }), "{error}");
        });
        assert_eq!(host.sh("ip -d link show br-aaaaaaaaaaaa"), before);
        host.sh("ip link del br-aaaaaaaaaaaa");
    }
}

#[test]
fn an_mtu_given_stays_when_the_last_port_goes() {
    let (host, inside) = (Netns::new("mtu"), Netns::new("inside"));
    let (bridge, veth) = (Bridge::of(&id('a')), Veth::of(&id('b'), &inside));
    block_on(async {
        let netlink = Netlink::open_in(&namespace(&host)).await.unwrap();
        let (master, _) = netlink.create_bridge(&bridge.wanted(1400)).await.unwrap();
        let (port, _) = netlink.create_veth(&veth.wanted()).await.unwrap();
        netlink.set_mtu(port, 1300).await.unwrap();
        netlink.set_master(port, Some(master)).await.unwrap();
        netlink.delete_link(port).await.unwrap();
        assert_eq!(netlink.link_named(&bridge.name).await.unwrap().unwrap().mtu, 1400);
    });
}

#[test]
fn s67_a_veth_is_made_with_its_far_end_elsewhere() {
    let (host, inside) = (Netns::new("veth"), Netns::new("inside"));
    let new = Veth::of(&id('b'), &inside);
    block_on(async {
        let netlink = Netlink::open_in(&namespace(&host)).await.unwrap();
        let (index, outcome) = netlink.create_veth(&new.wanted()).await.unwrap();
        assert_eq!(outcome, Outcome::Done);
        assert_eq!(netlink.create_veth(&new.wanted()).await.unwrap(), (index, Outcome::Already));

        let near = netlink.link_named("bscbbbbbbbb").await.unwrap().unwrap();
        let owned = mark().recognise(&near.name, near.alias.as_deref(), near.mac);
        assert_eq!(owned, Some(Owned::Veth(id('b'))));
        assert_eq!((&near.kind, near.up, near.mtu), (&LinkKind::Veth, false, 1400));
        assert!(near.peer_namespace.is_some());

        let within = Netlink::open_in(&namespace(&inside)).await.unwrap();
        let far = within.link_named("bspbbbbbbbb").await.unwrap().unwrap();
        assert_eq!((far.mac, far.mtu, far.up), (Some(Veth::MAC), 1400, false));
        assert_eq!((far.peer, near.peer), (Some(index), Some(far.index)));

        assert_eq!(netlink.delete_link(index).await.unwrap(), Outcome::Done);
        assert_eq!(within.link_named("bspbbbbbbbb").await.unwrap(), None);
    });
}

#[test]
fn what_an_agent_left_half_made_is_taken_over() {
    let (host, inside) = (Netns::new("half"), Netns::new("inside"));
    let (bridge, veth) = (Bridge::of(&id('a')), Veth::of(&id('b'), &inside));
    let born = |name: &str| mark().birth_mac(name).map(|byte| format!("{byte:02x}")).join(":");
    host.sh(&format!("ip link add {} address {} type bridge", bridge.name, born(&bridge.name)));
    host.sh(&format!("ip link add {} address {} type veth", veth.name, born(&veth.name)));
    block_on(async {
        let netlink = Netlink::open_in(&namespace(&host)).await.unwrap();
        let near = netlink.link_named(&veth.name).await.unwrap().unwrap();
        assert_eq!(mark().recognise(&near.name, None, near.mac), Some(Owned::HalfMade));
        let (_, outcome) = netlink.create_veth(&veth.wanted()).await.unwrap();
        assert_eq!(outcome, Outcome::Already);
        let (_, outcome) = netlink.create_bridge(&bridge.wanted(1400)).await.unwrap();
        assert_eq!(outcome, Outcome::Already);
        let made = netlink.link_named(&bridge.name).await.unwrap().unwrap();
        assert_eq!((made.mac, made.alias), (Some(Bridge::MAC), Some(bridge.alias.clone())));
    });
}

#[test]
fn a_port_is_told_how_to_forward_and_where_an_address_is() {
    let (host, inside) = (Netns::new("port"), Netns::new("inside"));
    let (bridge, veth) = (Bridge::of(&id('a')), Veth::of(&id('b'), &inside));
    let flags = PortFlags { learning: false, unicast_flood: false, hairpin: true };
    let address: IpAddr = "10.200.0.2".parse().unwrap();
    block_on(async {
        let netlink = Netlink::open_in(&namespace(&host)).await.unwrap();
        let (master, _) = netlink.create_bridge(&bridge.wanted(1500)).await.unwrap();
        let (port, _) = netlink.create_veth(&veth.wanted()).await.unwrap();
        let error = netlink.set_port_flags(port, flags).await.unwrap_err();
        assert!(error.to_string().starts_with("cannot set up bridge port"), "{error}");
        netlink.set_master(port, Some(master)).await.unwrap();
        netlink.set_port_flags(port, flags).await.unwrap();
        let link = netlink.link_named(&veth.name).await.unwrap().unwrap();
        assert_eq!((link.master, link.port), (Some(master), Some(flags)));

        for _ in 0..2 {
            netlink.set_fdb(port, Veth::MAC).await.unwrap();
            netlink.set_neighbour(master, address, Veth::MAC).await.unwrap();
        }
        let fdb = netlink.fdb().await.unwrap();
        let set: Vec<_> = fdb.iter().filter(|entry| entry.set).collect();
        assert_eq!(set.len(), 1);
        assert_eq!((set[0].port, set[0].bridge, set[0].mac), (port, master, Veth::MAC));
        let known = netlink.neighbours().await.unwrap();
        let known: Vec<_> = known.iter().filter(|entry| entry.permanent).collect();
        assert_eq!(known.len(), 1);
        assert_eq!((known[0].link, known[0].address), (master, address));
        assert_eq!(known[0].mac, Some(Veth::MAC));

        for expected in [Outcome::Done, Outcome::Already] {
            assert_eq!(netlink.delete_fdb(port, Veth::MAC).await.unwrap(), expected);
            assert_eq!(netlink.delete_neighbour(master, address).await.unwrap(), expected);
        }
        netlink.set_master(port, None).await.unwrap();
        assert_eq!(netlink.link_named(&veth.name).await.unwrap().unwrap().master, None);
    });
}

#[test]
fn addresses_and_routes_are_added_read_and_deleted() {
    let host = Netns::new("routes");
    let bridge = Bridge::of(&id('a'));
    block_on(async {
        let netlink = Netlink::open_in(&namespace(&host)).await.unwrap();
        let (index, _) = netlink.create_bridge(&bridge.wanted(1390)).await.unwrap();
        netlink.set_up(index, true).await.unwrap();
        let (four, six) = ("10.200.0.1/24".parse().unwrap(), "fd00:b::1/64".parse().unwrap());
        for address in [four, six] {
            assert_eq!(netlink.add_address(index, address).await.unwrap(), Outcome::Done);
            assert_eq!(netlink.add_address(index, address).await.unwrap(), Outcome::Already);
        }
        assert!(host.sh("ip addr show dev br-aaaaaaaaaaaa").contains("brd 10.200.0.255"));
        let addresses = netlink.addresses().await.unwrap();
        let ours: Vec<_> = addresses
            .iter()
            .filter(|address| address.link == index && address.scope == Scope::Global)
            .map(|address| address.address)
            .collect();
        assert_eq!(ours, [four, six]);

        for gateway in ["10.200.0.9", "10.200.0.254", "fd00:b::fe"] {
            let route = Route::default_by(gateway.parse().unwrap(), index);
            netlink.replace_route(&route).await.unwrap();
        }
        host.sh("ip route add 203.0.113.0/24 metric 7 src 10.200.0.1 nexthop via 10.200.0.3 nexthop via 10.200.0.4");
        host.sh("ip route add blackhole 198.51.100.0/24");
        host.sh("ip route add 100.64.0.0/10 via 10.200.0.3 table 77");
        let routes = netlink.routes().await.unwrap();
        let defaults: Vec<_> = routes.iter().filter(|route| route.is_default()).collect();
        assert_eq!(defaults.len(), 2, "replaced, not added: {defaults:?}");
        assert_eq!(defaults[0].gateway, Some("10.200.0.254".parse().unwrap()));
        assert_eq!(defaults[1].gateway, Some("fd00:b::fe".parse().unwrap()));
        assert!(routes.iter().any(|route| route.destination.to_string() == "10.200.0.0/24"
            && route.source == Some("10.200.0.1".parse().unwrap())));
        let hops: Vec<_> = routes.iter().filter(|route| route.metric == 7).collect();
        assert_eq!(hops.len(), 2);
        assert!(hops.iter().all(|route| route.link == Some(index) && route.gateway.is_some()));
        assert!(!routes.iter().any(|route| route.destination.to_string() == "198.51.100.0/24"));
        assert!(!routes.iter().any(|route| route.destination.to_string() == "100.64.0.0/10"));
        let links = netlink.links().await.unwrap();
        assert_eq!(mtu_of_default_route(&links, &routes), Some(1390));

        let default = *defaults[0];
        for expected in [Outcome::Done, Outcome::Already] {
            assert_eq!(netlink.delete_route(&default).await.unwrap(), expected);
            assert_eq!(netlink.delete_address(index, four).await.unwrap(), expected);
        }
    });
}

#[test]
fn the_kernels_own_words_are_part_of_an_error() {
    let host = Netns::new("words");
    let bridge = Bridge::of(&id('a'));
    block_on(async {
        let netlink = Netlink::open_in(&namespace(&host)).await.unwrap();
        let (index, _) = netlink.create_bridge(&bridge.wanted(1500)).await.unwrap();
        let error = netlink.set_mtu(index, 7).await.unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("cannot set the MTU of link {index}: invalid argument ("))
        );
        assert!(error.contains("mtu"), "{error}");
    });
}

#[test]
fn a_table_of_many_parts_is_read_whole_while_it_changes() {
    let (host, inside) = (Netns::new("many"), Netns::new("inside"));
    let many = 300;
    block_on(async {
        let netlink = Netlink::open_in(&namespace(&host)).await.unwrap();
        for number in 0..many {
            let veth =
                Veth::of(&format!("{number:064x}").chars().rev().collect::<String>(), &inside);
            netlink.create_veth(&veth.wanted()).await.unwrap();
        }
        let changing = {
            let host = host.clone();
            std::thread::spawn(move || {
                for _ in 0..20 {
                    host.sh("ip link add passing type bridge");
                    host.sh("ip link del passing");
                }
            })
        };
        while !changing.is_finished() {
            let links = netlink.links().await.unwrap();
            let veths = links.iter().filter(|link| link.kind == LinkKind::Veth).count();
            assert_eq!(veths, many);
        }
        changing.join().unwrap();
    });
}
