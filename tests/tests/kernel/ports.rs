//! Who holds a port, and which ports are kept from sockets.

use std::{
    net::{Ipv4Addr, TcpListener, UdpSocket},
    os::fd::{AsRawFd, OwnedFd},
};

use bascule::kernel::{
    ports::PortSet,
    reserve::{self, Protocol},
    sysctl::{self, IP_FORWARD, RESERVED_PORTS, Restored},
};
use bascule_tests::Netns;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, SockaddrIn6, bind, listen, setsockopt, socket,
    sockopt,
};

const ANY: Ipv4Addr = Ipv4Addr::UNSPECIFIED;

fn tcp6(port: u16, only_v6: bool) -> OwnedFd {
    let fd = socket(AddressFamily::Inet6, SockType::Stream, SockFlag::empty(), None).unwrap();
    setsockopt(&fd, sockopt::Ipv6V6Only, &only_v6).unwrap();
    let any = std::net::SocketAddrV6::new(std::net::Ipv6Addr::UNSPECIFIED, port, 0, 0);
    bind(fd.as_raw_fd(), &SockaddrIn6::from(any)).unwrap();
    listen(&fd, nix::sys::socket::Backlog::new(1).unwrap()).unwrap();
    fd
}

#[test]
fn the_socket_that_holds_a_port_is_found() {
    Netns::new("holders").run(|| {
        let _wild = TcpListener::bind("0.0.0.0:8080").unwrap();
        let _local = TcpListener::bind("127.0.0.1:8081").unwrap();
        let _datagrams = UdpSocket::bind("0.0.0.0:53").unwrap();
        let connected = UdpSocket::bind("127.0.0.1:54").unwrap();
        connected.connect("127.0.0.1:9").unwrap();
        let (_dual, _only) = (tcp6(8082, false), tcp6(8083, true));
        let holders = reserve::holders().unwrap();
        let clash = |protocol, address, port| reserve::clash(&holders, protocol, address, port);

        let found = clash(Protocol::Tcp, ANY, 8080).unwrap();
        let pid = std::process::id();
        assert_eq!(found.process.as_ref().map(|process| process.pid), Some(pid));
        let text = "failed to bind host port 0.0.0.0:8080/tcp: address already in use (held by ";
        assert!(found.to_string().starts_with(text), "{found}");
        assert!(clash(Protocol::Tcp, Ipv4Addr::new(198, 51, 100, 1), 8080).is_some());
        assert!(clash(Protocol::Tcp, Ipv4Addr::new(198, 51, 100, 1), 8081).is_none());
        assert!(clash(Protocol::Tcp, ANY, 8081).is_some());
        assert!(clash(Protocol::Udp, ANY, 8080).is_none());
        assert!(clash(Protocol::Udp, ANY, 53).is_some());
        assert!(clash(Protocol::Udp, ANY, 54).is_some());
        assert!(clash(Protocol::Tcp, ANY, 8082).is_some());
        assert!(clash(Protocol::Tcp, ANY, 8083).is_none());
    });
}

#[test]
fn a_socket_that_is_only_bound_holds_its_port_where_the_kernel_tells() {
    Netns::new("bound").run(|| {
        let fd = socket(AddressFamily::Inet, SockType::Stream, SockFlag::empty(), None).unwrap();
        bind(fd.as_raw_fd(), &SockaddrIn::new(0, 0, 0, 0, 8080)).unwrap();
        let found = reserve::clash(&reserve::holders().unwrap(), Protocol::Tcp, ANY, 8080);
        let release = nix::sys::utsname::uname().unwrap().release().to_string_lossy().into_owned();
        let mut parts = release.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
        let version = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
        assert_eq!(found.is_some(), version >= (6, 8), "Linux {release}");
    });
}

#[test]
fn another_namespaces_sockets_hold_nothing_here() {
    let (here, there) = (Netns::new("here"), Netns::new("there"));
    let _socket = there.run(|| TcpListener::bind("0.0.0.0:8080")).unwrap();
    assert!(here.run(reserve::holders).unwrap().is_empty());
}

#[test]
fn forwarding_is_journalled_and_given_back_unless_changed_since() {
    let ns = Netns::new("forward");
    ns.sysctl_set("net/ipv4/ip_forward", "0");
    ns.run(|| {
        let entry = sysctl::plan(IP_FORWARD, "1").unwrap().unwrap();
        assert_eq!((entry.before.as_str(), entry.ours.as_str()), ("0", "1"));
        sysctl::apply(&entry).unwrap();
        assert_eq!(sysctl::read(IP_FORWARD).unwrap(), "1");
        assert_eq!(sysctl::plan(IP_FORWARD, "1").unwrap(), None);
        assert_eq!(sysctl::restore(&entry).unwrap(), Restored::Done);
        assert_eq!(sysctl::read(IP_FORWARD).unwrap(), "0");
        assert_eq!(sysctl::restore(&entry).unwrap(), Restored::Already);
    });
}

#[test]
fn reserved_ports_of_others_outlive_ours() {
    let ns = Netns::new("reserved");
    ns.sysctl_set("net/ipv4/ip_local_reserved_ports", "8080,9000-9010");
    ns.run(|| {
        let ports = |text: &str| PortSet::parse(text).unwrap();
        let now = || sysctl::read(RESERVED_PORTS).unwrap();
        let first = sysctl::plan_ports(None, &ports("8080,49152-65535")).unwrap().unwrap();
        assert_eq!(first.settled.ours, "49152-65535");
        sysctl::reserve_ports(&first).unwrap();
        assert_eq!(now(), "8080,9000-9010,49152-65535");
        let wanted = ports("8080,49152-65535");
        assert_eq!(sysctl::plan_ports(Some(&first.settled), &wanted).unwrap(), None);

        sysctl::write(RESERVED_PORTS, "8080,7000,9000-9010,49152-65535").unwrap();
        let second =
            sysctl::plan_ports(Some(&first.settled), &ports("7001,9005")).unwrap().unwrap();
        assert_eq!(second.claim.ours, "7001,49152-65535", "a crash here would leave nothing");
        sysctl::reserve_ports(&second).unwrap();
        assert_eq!(now(), "7000-7001,8080,9000-9010");
        assert_eq!(sysctl::restore(&second.settled).unwrap(), Restored::Done);
        assert_eq!(now(), "7000,8080,9000-9010");
        assert_eq!(sysctl::restore(&second.settled).unwrap(), Restored::Already);
    });
}

#[test]
fn a_list_longer_than_a_page_is_written_and_read() {
    Netns::new("long").run(|| {
        let every_third = PortSet::of((1000..=65_000).step_by(3).map(|port| (port, port + 1)));
        let step = sysctl::plan_ports(None, &every_third).unwrap().unwrap();
        assert!(step.settled.ours.len() > 200_000);
        sysctl::reserve_ports(&step).unwrap();
        let read = PortSet::parse(&sysctl::read(RESERVED_PORTS).unwrap()).unwrap();
        assert_eq!(read, every_third);
        let step = sysctl::plan_ports(Some(&step.settled), &PortSet::default()).unwrap().unwrap();
        sysctl::reserve_ports(&step).unwrap();
        assert_eq!(sysctl::read(RESERVED_PORTS).unwrap(), "");
    });
}

#[test]
fn a_namespaces_sysctls_are_its_own() {
    let (here, there) = (Netns::new("here"), Netns::new("there"));
    here.run(|| sysctl::write(RESERVED_PORTS, "77")).unwrap();
    assert_eq!(there.run(|| sysctl::read(RESERVED_PORTS)).unwrap(), "");
    let missing = here.run(|| sysctl::read("net.ipv4.no_such_thing")).unwrap_err();
    let text = "cannot read sysctl net.ipv4.no_such_thing: no such file or directory";
    assert_eq!(missing.to_string(), text);
}
