//! Published ports seen from containers of the same host.

use bascule_common::abi::DropReason;
use bascule_tests::frame::{Frame, TCP, UDP};

use super::{
    twin::Twin,
    world::{C1, C2, C3, HOST, World, gateway},
};

fn published() -> World {
    World::new().publish(1, TCP, (8080, 80, 1), 1).publish(2, UDP, (53, 5353, 1), 1)
}

#[test]
fn to_oneself() {
    let mut twin = Twin::new(published());
    let syn = Frame::tcp("172.20.0.2:40000", "198.51.100.1:8080").syn();
    let seen = twin.sends(1, &syn).delivered(1);
    assert_eq!(seen.src.to_string(), gateway(C1), "not its own address");
    assert_eq!(seen.dst.to_string(), C1);
    let (port, 80) = seen.ports().expect("ports") else { panic!("{seen:?}") };
    let answer = Frame::tcp("172.20.0.2:80", &format!("{}:{port}", gateway(C1))).syn_ack();
    let seen = twin.sends(1, &answer).delivered(1);
    assert_eq!((seen.src.to_string().as_str(), seen.ports()), (HOST, Some((8080, 40_000))));
}

#[test]
fn to_a_neighbour() {
    let mut twin = Twin::new(published());
    let seen = twin.sends(2, &Frame::udp("172.20.0.3:4000", "198.51.100.1:53")).delivered(1);
    assert_eq!(seen.src.to_string(), gateway(C2));
    let (port, 5353) = seen.ports().expect("ports") else { panic!("{seen:?}") };
    let answer = Frame::udp("172.20.0.2:5353", &format!("{}:{port}", gateway(C1)));
    let seen = twin.sends(1, &answer).delivered(2);
    assert_eq!((seen.src.to_string().as_str(), seen.ports()), (HOST, Some((53, 4000))));
}

#[test]
fn to_another_network() {
    let mut twin = Twin::new(published());
    let syn = Frame::tcp("172.21.0.2:40000", "198.51.100.1:8080").syn();
    let seen = twin.sends(3, &syn).delivered(1);
    assert_eq!((seen.src.to_string().as_str(), seen.ports()), (C3, Some((40_000, 80))));
    let answer = Frame::tcp("172.20.0.2:80", "172.21.0.2:40000").syn_ack();
    let seen = twin.sends(1, &answer).delivered(3);
    assert_eq!((seen.src.to_string().as_str(), seen.ports()), (HOST, Some((8080, 40_000))));
    // The flow opens nothing else between the networks.
    twin.sends(1, &Frame::tcp("172.20.0.2:81", "172.21.0.2:40000").syn_ack())
        .dropped(DropReason::PolicyIsolation);
}

#[test]
fn by_the_gateways_address() {
    let mut twin = Twin::new(published());
    twin.sends(3, &Frame::tcp("172.21.0.2:40000", "172.21.0.1:8080").syn()).delivered(1);
    twin.sends(3, &Frame::tcp("172.21.0.2:40001", "172.20.0.1:8080").syn()).delivered(1);
}

#[test]
fn an_internal_network_does_not_use_them() {
    let mut twin = Twin::new(published());
    // Its gateway's address is its own to ask; what other networks publish there is not.
    for address in [HOST, "172.22.0.1"] {
        twin.sends(4, &Frame::tcp("172.22.0.2:40000", &format!("{address}:8080")).syn())
            .dropped(DropReason::PolicyInternal);
        twin.sends(4, &Frame::udp("172.22.0.2:40000", &format!("{address}:53")))
            .dropped(DropReason::PolicyInternal);
    }
    assert!(twin.tables.four.flows.borrow().is_empty());
}

#[test]
fn only_a_syn_opens_one() {
    let mut twin = Twin::new(published());
    // An answer of a container to a host process whose port happens to be a published one.
    twin.sends(3, &Frame::tcp("172.21.0.2:22", "172.21.0.1:8080").syn_ack()).passed();
    twin.sends(3, &Frame::tcp("172.21.0.2:22", "172.21.0.1:8080")).passed();
    assert!(twin.tables.four.flows.borrow().is_empty());
}
