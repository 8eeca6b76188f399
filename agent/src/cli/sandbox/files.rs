//! `/etc/hosts`, `/etc/resolv.conf` and `/etc/hostname` of a container, below the run directory.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

/// The names they have in `/etc` and in the container's directory.
pub const NAMES: [&str; 3] = ["hosts", "resolv.conf", "hostname"];

/// What docker puts into every hosts file.
const LOCALHOST: &str = "127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
ff00::0\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
";

/// Where the files of a container are.
pub fn directory(run_dir: &Path, id: &str) -> PathBuf {
    run_dir.join("containers").join(id)
}

/// What the operator has set for names; what is empty is as on the host.
#[derive(Clone, Debug, Default)]
pub struct Resolver {
    /// Name servers.
    pub servers: Vec<String>,
    /// Domains that short names are looked up in; a lone dot is none.
    pub search: Vec<String>,
}

impl Resolver {
    /// Puts what was set in the place of what the host has.
    fn in_place_of(&self, host: &str) -> String {
        let replaced = |line: &str| match line.split_whitespace().next() {
            Some("nameserver") => !self.servers.is_empty(),
            Some("search" | "domain") => !self.search.is_empty(),
            _ => false,
        };
        let kept = host.lines().filter(|line| !replaced(line)).map(|line| format!("{line}\n"));
        let mut text: String = kept.collect();
        text.extend(self.servers.iter().map(|server| format!("nameserver {server}\n")));
        let search: Vec<_> = self.search.iter().filter(|domain| *domain != ".").cloned().collect();
        if !search.is_empty() {
            text += &format!("search {}\n", search.join(" "));
        }
        text
    }
}

/// Writes the files of a container. They are written in place: commands that run have them mounted.
pub fn write(
    dir: &Path,
    hostname: &str,
    addresses: &[String],
    resolver: &Resolver,
) -> anyhow::Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    // A host without one has no servers, and neither has the container.
    let resolv = fs::read("/etc/resolv.conf").unwrap_or_default();
    let resolv = resolver.in_place_of(&String::from_utf8_lossy(&resolv));
    let contents = [hosts(hostname, addresses), resolv, format!("{hostname}\n")];
    for (name, content) in NAMES.iter().zip(contents) {
        let path = dir.join(name);
        fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// The host name stands behind every address, and its first label too.
fn hosts(hostname: &str, addresses: &[String]) -> String {
    let mut text = LOCALHOST.to_owned();
    let short = hostname.split_once('.').map(|(short, _)| format!(" {short}")).unwrap_or_default();
    for address in addresses {
        let address = address.split('/').next().unwrap_or(address);
        text.push_str(&format!("{address}\t{hostname}{short}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s126_s144_hosts_names_the_container_and_localhost() {
        let text = hosts("mydocker1.rayx.me", &["172.17.0.4/16".into()]);
        assert!(text.starts_with("127.0.0.1\tlocalhost\n"), "{text}");
        assert!(text.ends_with("172.17.0.4\tmydocker1.rayx.me mydocker1\n"), "{text}");
        assert!(hosts("c1", &["10.0.0.2".into()]).ends_with("10.0.0.2\tc1\n"));
    }

    #[test]
    fn s129_the_agents_servers_and_domains_stand_in_the_place_of_the_hosts() {
        let host =
            "# by hand\nnameserver 192.0.2.53\nsearch a.example b.example\noptions ndots:2\n";
        let of = |servers: &[&str], search: &[&str]| {
            let list = |items: &[&str]| items.iter().map(|item| (*item).to_owned()).collect();
            Resolver { servers: list(servers), search: list(search) }.in_place_of(host)
        };
        assert_eq!(of(&[], &[]), host, "S131");
        let dns = of(&["9.9.9.9", "2001:db8::53"], &["example.com"]);
        assert_eq!(
            dns,
            "# by hand\noptions ndots:2\nnameserver 9.9.9.9\nnameserver 2001:db8::53\nsearch example.com\n"
        );
        assert_eq!(of(&[], &["."]), "# by hand\nnameserver 192.0.2.53\noptions ndots:2\n", "S128");
    }

    #[test]
    fn s125_three_files_are_written_and_written_over() {
        let dir = tempfile::tempdir().expect("a directory");
        let dir = directory(dir.path(), "abc");
        write(&dir, "c1", &[], &Resolver::default()).expect("written");
        write(&dir, "c2", &["10.0.0.2/8".into()], &Resolver::default()).expect("written again");
        assert_eq!(fs::read_to_string(dir.join("hostname")).expect("there"), "c2\n");
        assert!(fs::read_to_string(dir.join("hosts")).expect("there").contains("10.0.0.2\tc2"));
        assert!(dir.join("resolv.conf").exists());
    }
}
