//! `/etc/resolv.conf`: the host's is read, a container's is made from it.

use std::net::IpAddr;

use crate::model::Resolver;

/// The longest line that is read, in bytes, as with Docker.
const LINE: usize = 65_536;
/// Servers for containers whose host has none that they could reach, as with Docker.
const PUBLIC: [&str; 2] = ["8.8.8.8", "8.8.4.4"];
const PUBLIC6: [&str; 2] = ["2001:4860:4860::8888", "2001:4860:4860::8844"];
/// What stands above a file that is not the host's own.
const HEADING: &str = "# Made by Bascule, which leaves the file alone once it is edited.\n";
/// Where systemd's stub listens; the file beside it names the servers behind it.
const STUB: &str = "127.0.0.53";

/// A file that was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResolvConf {
    text: String,
    servers: Vec<Server>,
    search: Option<Vec<String>>,
    options: Vec<String>,
    /// Lines with words that are not ours to know.
    others: Vec<String>,
    /// What could not be read, for a comment.
    wrong: Vec<String>,
}

/// A name server, as it is written; an address of the link has a zone.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Server {
    text: String,
    ip: IpAddr,
}

impl ResolvConf {
    /// Reads a file.
    pub fn parse(text: &str) -> Self {
        let mut read = Self { text: text.to_owned(), ..Self::default() };
        for line in text.lines() {
            read.line(line);
        }
        read
    }

    fn line(&mut self, line: &str) {
        if line.len() > LINE {
            return self.wrong.push(format!("line too long (exceeds {LINE})"));
        }
        let mut words = line.split_whitespace();
        let (word, rest) = (words.next().unwrap_or("#"), words.collect::<Vec<_>>());
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        match (word, rest.as_slice()) {
            (word, _) if word.starts_with(['#', ';']) => {}
            ("nameserver", [server]) => match server.split('%').next().unwrap_or(server).parse() {
                Ok(ip) => self.servers.push(Server { text: (*server).to_owned(), ip }),
                Err(_) => self.wrong.push(format!("bad nameserver {server:?}")),
            },
            ("nameserver", rest) => self.wrong.push(format!("bad nameserver {:?}", rest.join(" "))),
            ("search", domains) => self.search = Some(owned(domains)),
            ("domain", domains) => self.search = Some(owned(domains)),
            ("options", options) => self.options = owned(options),
            _ => self.others.push(line.to_owned()),
        }
    }

    /// Tells whether the file names nothing but systemd's stub, and another one the servers.
    pub fn is_stub(&self) -> bool {
        !self.servers.is_empty() && self.servers.iter().all(|server| server.text == STUB)
    }

    /// Returns what a container has that asks the host's servers itself; `beyond` leaves out those that only the host
    /// can reach, and without IPv6 those of IPv6.
    pub fn direct(&self, wanted: &Resolver, beyond: bool, ipv6: bool) -> String {
        let reachable = |server: &&Server| {
            !beyond || !server.ip.to_canonical().is_loopback() && (ipv6 || server.ip.is_ipv4())
        };
        let mut servers: Vec<_> =
            self.servers.iter().filter(reachable).map(|server| server.text.clone()).collect();
        if servers.is_empty() && beyond {
            servers.extend(PUBLIC.map(String::from));
            servers.extend(PUBLIC6.iter().filter(|_| ipv6).map(|text| (*text).to_owned()));
        }
        let same = servers.iter().eq(self.servers.iter().map(|server| &server.text));
        if same && wanted.is_empty() && self.wrong.is_empty() {
            return self.text.clone();
        }
        if !wanted.servers.is_empty() {
            servers = wanted.servers.iter().map(ToString::to_string).collect();
        }
        self.written(&servers, wanted, self.chosen_options(wanted), "")
    }

    /// Returns what a container has that asks the agent's server, and that one `behind`, or the host's.
    pub fn through(&self, server: IpAddr, wanted: &Resolver, behind: &[IpAddr]) -> String {
        let mut options = self.chosen_options(wanted);
        if !options.iter().any(|option| option.starts_with("ndots:")) {
            options.push("ndots:0".to_owned());
        }
        let behind: Vec<_> = match behind {
            [] => self.servers.iter().map(|server| format!("host({})", server.text)).collect(),
            servers => servers.iter().map(ToString::to_string).collect(),
        };
        let comment = format!("# ExtServers: [{}]\n", behind.join(" "));
        self.written(&[server.to_string()], wanted, options, &comment)
    }

    fn chosen_options(&self, wanted: &Resolver) -> Vec<String> {
        if wanted.options.is_empty() { self.options.clone() } else { wanted.options.clone() }
    }

    fn written(
        &self,
        servers: &[String],
        wanted: &Resolver,
        options: Vec<String>,
        comment: &str,
    ) -> String {
        let mut text = HEADING.to_owned();
        text.extend(self.others.iter().map(|line| format!("{line}\n")));
        text.extend(servers.iter().map(|server| format!("nameserver {server}\n")));
        let search: Vec<_> = match wanted.search.as_slice() {
            [] => self.search.iter().flatten().map(String::as_str).collect(),
            _ => wanted.domains().collect(),
        };
        if !search.is_empty() {
            text += &format!("search {}\n", search.join(" "));
        }
        if !options.is_empty() {
            text += &format!("options {}\n", options.join(" "));
        }
        text += comment;
        text.extend(self.wrong.iter().map(|wrong| format!("# Left out: {wrong}\n")));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wants(servers: &[&str], search: &[&str], options: &[&str]) -> Resolver {
        let list = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let servers = servers.iter().map(|ip| ip.parse().unwrap()).collect();
        Resolver { servers, search: list(search), options: list(options) }
    }

    fn direct(host: &str, wanted: &Resolver, ipv6: bool) -> String {
        ResolvConf::parse(host).direct(wanted, true, ipv6).replace(HEADING, "")
    }

    #[test]
    fn s131_who_asks_for_nothing_has_the_hosts_file() {
        let host = "# by hand\nnameserver 192.0.2.53\nsearch a b\noptions ndots:2\nsortlist x\n";
        assert_eq!(direct(host, &wants(&[], &[], &[]), false), host);
    }

    #[test]
    fn s127_s128_moby_dns_017_what_was_asked_for_stands_in_the_place_of_the_hosts() {
        let host = "nameserver 192.0.2.53\nsearch a b\noptions ndots:2\nsortlist x\n";
        let both = wants(&["9.9.9.9", "2001:db8::53"], &["example.com"], &[]);
        assert_eq!(
            direct(host, &both, false),
            "sortlist x\nnameserver 9.9.9.9\nnameserver 2001:db8::53\nsearch example.com\noptions ndots:2\n"
        );
        let dot = wants(&[], &["."], &["ndots:9", "rotate", "ndots:9"]);
        let text = "sortlist x\nnameserver 192.0.2.53\noptions ndots:9 rotate ndots:9\n";
        assert_eq!(direct(host, &dot, false), text);
    }

    #[test]
    fn moby_dns_014_servers_that_only_the_host_reaches_are_replaced() {
        let none = wants(&[], &[], &[]);
        let public = "nameserver 8.8.8.8\nnameserver 8.8.4.4\n";
        for host in ["nameserver 127.0.0.53\n", "nameserver 127.0.0.1\nnameserver ::1\n", ""] {
            assert_eq!(direct(host, &none, false), public, "{host}");
            assert!(direct(host, &none, true).ends_with("nameserver 2001:4860:4860::8844\n"));
        }
        let mixed = "nameserver 127.0.0.1\nnameserver 2001:db8::53\n";
        assert_eq!(direct(mixed, &none, true), "nameserver 2001:db8::53\n");
        assert_eq!(direct(mixed, &none, false), public);
        let own = direct("nameserver 192.0.2.53\n", &wants(&["127.0.0.1"], &[], &[]), false);
        assert_eq!(own, "nameserver 127.0.0.1\n", "what was asked for is kept");
        let host = ResolvConf::parse("nameserver 127.0.0.53\n").direct(&none, false, false);
        assert_eq!(host, "nameserver 127.0.0.53\n", "who has the host's network reaches it");
    }

    #[test]
    fn moby_dns_013_who_has_the_agents_server_is_told_what_stands_behind_it() {
        let host = ResolvConf::parse("nameserver 127.0.0.53\nsearch lan\noptions edns0\n");
        let server = IpAddr::from([127, 0, 0, 11]);
        let through =
            |wanted: &Resolver| host.through(server, wanted, &wanted.servers).replace(HEADING, "");
        assert_eq!(
            through(&wants(&[], &[], &[])),
            "nameserver 127.0.0.11\nsearch lan\noptions edns0 ndots:0\n# ExtServers: [host(127.0.0.53)]\n"
        );
        assert_eq!(
            through(&wants(&["9.9.9.9"], &["."], &["ndots:2"])),
            "nameserver 127.0.0.11\noptions ndots:2\n# ExtServers: [9.9.9.9]\n"
        );
    }

    #[test]
    fn moby_dns_016_what_does_not_read_is_left_out_and_told() {
        let long = "x".repeat(LINE + 1);
        let host = format!(
            "nameserver 192.0.2.53\nnameserver 1.2.3\nnameserver\nnameserver fe80::1%eth0\n{long}\nfunny business\n"
        );
        let text = direct(&host, &wants(&[], &[], &[]), true);
        assert_eq!(
            text,
            "funny business\nnameserver 192.0.2.53\nnameserver fe80::1%eth0\n\
             # Left out: bad nameserver \"1.2.3\"\n# Left out: bad nameserver \"\"\n\
             # Left out: line too long (exceeds 65536)\n"
        );
    }

    #[test]
    fn systemds_stub_is_told_from_other_servers() {
        let is_stub = |text: &str| ResolvConf::parse(text).is_stub();
        assert!(is_stub("nameserver 127.0.0.53\noptions edns0\n"));
        assert!(!is_stub("nameserver 127.0.0.53\nnameserver 192.0.2.53\n") && !is_stub(""));
    }
}
