//! IPv6 fragments through translations.

use bascule_common::abi::DropReason;
use bascule_tests::frame::{DESTINATION, Frame, HOP_BY_HOP, UDP};

use super::{
    twin::Twin,
    world::{C1, C2, Family, HOST, WORLD, World, at6, gateway, six},
};

/// Three fragments of a datagram.
fn parts(src: &str, dst: &str) -> Vec<Frame> {
    Frame::udp(src, dst).data(&[7; 100]).padding(HOP_BY_HOP).fragments(48)
}

#[test]
fn leave_together_and_come_back_together() {
    let mut twin = Twin::new(World::new());
    for part in parts(&at6(C1, 50_000), &at6(WORLD, 53)) {
        let seen = twin.sends(1, &part).left();
        assert_eq!((seen.src, &seen.extensions), (six(HOST).into(), &part.extensions));
    }
    for part in parts(&at6(WORLD, 53), &at6(HOST, 50_000)) {
        assert_eq!(twin.arrives(&part).delivered(1).dst, six(C1));
    }
}

#[test]
fn of_a_published_port_arrive_together() {
    let mut twin = Twin::new(World::new().publish_on(Family::Six, 1, UDP, (53, 5353, 1), 1));
    for part in parts(&at6(WORLD, 4000), &at6(HOST, 53)) {
        assert_eq!(twin.arrives(&part).delivered(1).dst, six(C1));
    }
    for part in parts(&at6(C1, 5353), &at6(WORLD, 4000)) {
        assert_eq!(twin.sends(1, &part).left().src, six(HOST));
    }
}

#[test]
fn put_together_have_the_right_checksum() {
    let mut twin = Twin::new(World::new());
    let whole = Frame::udp(&at6(C1, 1000), &at6(WORLD, 53)).data(&[7; 100]);
    let mut joined = Vec::new();
    let mut seen = None;
    for part in whole.fragments(48) {
        let part = twin.sends(1, &part).left();
        let bytes = part.ip_bytes();
        joined.extend(bytes[48..].to_vec());
        seen = Some(part);
    }
    let seen = seen.expect("fragments");
    let (src, dst) = (seen.src.to_string(), seen.dst.to_string());
    let joined = Frame::raw(&src, &dst, UDP, &joined);
    assert_eq!(bascule_tests::checksum::verify(&joined.bytes()), Ok(()));
}

#[test]
fn without_their_first_one_are_lost() {
    let mut twin = Twin::new(World::new());
    let own = parts(&at6(C1, 50_000), &at6(WORLD, 53));
    twin.sends(1, &own[1]).dropped(DropReason::FragNotFound);
    twin.sends(1, &own[0]).left();
    twin.sends(1, &own[2]).left();
    // Another identification is another datagram.
    let mut other = own[2].clone();
    other.extensions.last_mut().expect("the fragment header").1[6] ^= 1;
    twin.sends(1, &other).dropped(DropReason::FragNotFound);
    // For the host itself they are the host's to wait for.
    let theirs = parts(&at6(WORLD, 1), &at6(HOST, 2));
    twin.arrives(&theirs[1]).passed();
}

#[test]
fn within_a_network_are_nobodys_business() {
    let mut twin = Twin::new(World::new());
    for part in parts(&at6(C1, 50_000), &at6(C2, 53)).iter().rev() {
        twin.sends_near(1, part).delivered(2);
    }
    let by_gateway = parts(&at6(C1, 50_001), &at6(C2, 53));
    assert_eq!(twin.sends(1, &by_gateway[0]).delivered(2).ttl, 63);
    assert_eq!(gateway(C1), gateway(C2));
}

#[test]
fn rfc6946_an_atomic_one_is_whole() {
    let mut twin = Twin::new(World::new().publish_on(Family::Six, 1, UDP, (53, 5353, 1), 1));
    let atomic = Frame::udp(&at6(C1, 50_000), &at6(WORLD, 53)).fragment6(0, false, 5);
    let seen = twin.sends(1, &atomic).left();
    assert_eq!(seen.ports(), Some((50_000, 53)));
    let atomic =
        Frame::udp(&at6(WORLD, 4000), &at6(HOST, 53)).fragment6(0, false, 5).padding(DESTINATION);
    assert_eq!(twin.arrives(&atomic).delivered(1).ports(), Some((4000, 5353)));
    assert!(twin.tables.six.fragments.borrow().is_empty(), "nothing follows that would need it");
}
