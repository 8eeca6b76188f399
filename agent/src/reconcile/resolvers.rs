//! The name servers that the host asks: no network of containers may take their addresses.

use std::{fs, net::IpAddr};

use crate::model::name_servers;

/// Where they are told; the second one where the first names only a stub on this very host.
const FILES: [&str; 2] = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];

/// Returns the name servers beyond this host.
pub(super) fn resolvers() -> Vec<IpAddr> {
    // A file that is missing or cannot be read names none.
    let told = FILES.iter().filter_map(|file| fs::read_to_string(file).ok());
    told.flat_map(|text| named(&text)).collect()
}

fn named(text: &str) -> Vec<IpAddr> {
    // A zone is a matter of the link.
    let servers = name_servers(text).filter_map(|server| server.split('%').next()?.parse().ok());
    servers.filter(|ip: &IpAddr| !ip.is_loopback() && !ip.is_unspecified()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn n25_p38_name_servers_are_read() {
        let text = "# nameserver 192.0.2.1\nsearch lan\nnameserver 10.8.0.1\n\
                    nameserver\t127.0.0.53\nnameserver fe80::1%eth0\nnameserver x\nnameserver\n";
        let expected: [IpAddr; 2] = ["10.8.0.1".parse().unwrap(), "fe80::1".parse().unwrap()];
        assert_eq!(named(text), expected);
    }
}
