//! Frames written and read.

use super::*;
use crate::checksum::verify;

#[test]
fn frames_survive_a_round_trip() {
    for frame in [
        Frame::tcp("198.51.100.7:40000", "203.0.113.1:80").syn(),
        Frame::tcp("198.51.100.7:40000", "203.0.113.1:80").tcp_options(&[2, 4, 5, 180]),
        Frame::udp("198.51.100.7:40000", "203.0.113.1:53").vlan(7),
        Frame::echo("198.51.100.7", "203.0.113.1", 0x4242).ttl(3),
        Frame::raw("198.51.100.7", "203.0.113.1", 47, b"gre").ip_options(&[1, 1, 1, 0]),
        Frame::tcp("[2001:db8::7]:40000", "[2001:db8::1]:80").syn(),
        Frame::udp("[2001:db8::7]:40000", "[2001:db8::1]:53").vlan(7),
        Frame::echo("2001:db8::7", "2001:db8::1", 0x4242).ttl(3),
        Frame::udp("[2001:db8::7]:40000", "[2001:db8::1]:53")
            .padding(HOP_BY_HOP)
            .padding(ROUTING)
            .authentication()
            .padding(DESTINATION),
        // Atomic: whole all the same.
        Frame::udp("[2001:db8::7]:40000", "[2001:db8::1]:53").fragment6(0, false, 7),
    ] {
        assert_eq!(Frame::parse(&frame.bytes()).as_ref(), Some(&frame));
        assert_eq!(verify(&frame.bytes()), Ok(()));
    }
}

#[test]
fn fragments_put_together_are_the_packet() {
    for (src, dst) in
        [("198.51.100.7:40000", "203.0.113.1:53"), ("[2001:db8::7]:40000", "[2001:db8::1]:53")]
    {
        let whole = Frame::udp(src, dst).data(&[7; 100]);
        let parts = whole.fragments(48);
        let joined: Vec<u8> = parts
            .iter()
            .flat_map(|part| match &part.body {
                Body::Raw { payload, .. } => payload.clone(),
                _ => panic!("fragments are raw"),
            })
            .collect();
        assert_eq!(joined, whole.l4_bytes());
        for part in &parts {
            assert_eq!(Frame::parse(&part.bytes()).as_ref(), Some(part));
        }
        if whole.src.is_ipv4() {
            assert_eq!(parts.last().map(|part| part.fragment), Some(12));
        }
    }
}
