//! SCTP packets by hand: the kernel that is tested on has no sockets for it.

/// IP protocol number.
pub const SCTP: u8 = 132;

/// An SCTP packet with one INIT chunk between two ports, its CRC32c in place (RFC 9260).
pub fn init(src: u16, dst: u16) -> Vec<u8> {
    init_with_tag(src, dst, 0x1234_5678)
}

/// The same, with a tag of its own for what is sent back.
pub fn init_with_tag(src: u16, dst: u16, tag: u32) -> Vec<u8> {
    let mut packet = [src.to_be_bytes(), dst.to_be_bytes()].concat();
    // No verification tag yet; room for the checksum.
    packet.extend([0; 8]);
    // INIT: length, tag, window, streams, first sequence number.
    packet.extend([1, 0, 0, 20]);
    packet.extend(tag.to_be_bytes());
    packet.extend([0, 1, 0, 0, 0, 10, 0xff, 0xff, 0, 0, 0, 1]);
    let sum = crc32c(&packet).to_le_bytes();
    packet[8..12].copy_from_slice(&sum);
    packet
}

/// Whether the checksum of an SCTP packet is right.
pub fn is_intact(packet: &[u8]) -> bool {
    let mut bare = packet.to_vec();
    let Some(field) = bare.get_mut(8..12) else { return false };
    field.fill(0);
    packet.get(8..12) == Some(crc32c(&bare).to_le_bytes().as_slice())
}

fn crc32c(bytes: &[u8]) -> u32 {
    let shift = |crc: u32| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
    let step = |crc: u32, byte: &u8| (0..8).fold(crc ^ u32::from(*byte), |crc, _| shift(crc));
    !bytes.iter().fold(!0, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_castagnolis() {
        // RFC 3720, B.4: 32 bytes of zeros, and of ones.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        let mut packet = init(300, 65_000);
        assert!(is_intact(&packet));
        packet[1] ^= 1;
        assert!(!is_intact(&packet));
    }
}
