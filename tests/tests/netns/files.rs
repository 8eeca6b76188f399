//! What commands find in `/etc/hosts`, `/etc/resolv.conf` and `/etc/hostname`, and in their environment.

use std::{fs, path::Path};

use bascule_tests::{
    Agent, Netns, Topology,
    agent::Settings,
    container::attachment,
    wait::{SOON, wait_until},
};

use crate::Stage;

/// A stage whose host has a resolv.conf of the test's own.
pub(super) struct Asking {
    pub(super) stage: Stage,
    directory: tempfile::TempDir,
}

const FIRST: &str = "nameserver 192.0.2.53\nsearch lan.example\n";

impl Asking {
    pub(super) fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("resolv.conf");
        fs::write(&path, FIRST).expect("written");
        let net = Topology::new();
        let settings = Settings::default().env("BASCULE_RESOLV_CONF", &path.display().to_string());
        let agent = Agent::start_with(&net.host, settings);
        Self { stage: Stage { agent, net }, directory }
    }

    pub(super) fn host_asks(&self, text: &str) {
        fs::write(self.directory.path().join("resolv.conf"), text).expect("written");
    }
}

/// What a script prints that runs in a container.
#[track_caller]
pub(super) fn inside(agent: &Agent, container: &str, script: &str) -> String {
    let out = agent.cli(["exec", container, "sh", "-c", script]);
    assert_eq!(out.code, 0, "{script}: {out:?}");
    out.stdout.trim().to_owned()
}

/// The addresses that a name has in the hosts file, as programs with glibc find them.
fn known_as(agent: &Agent, container: &str, name: &str) -> Vec<String> {
    let out = agent.cli(["exec", container, "getent", "-s", "files", "ahostsv4", name]);
    let lines = out.stdout.lines().filter(|line| line.contains("STREAM"));
    lines.filter_map(|line| Some(line.split_whitespace().next()?.to_owned())).collect()
}

fn address(agent: &Agent, container: &str) -> String {
    let template = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
    let out = agent.cli(["inspect", "--format", template, container]);
    out.stdout.trim().to_owned()
}

#[test]
fn s125_s126_s127_s128_s130_moby_dns_031_the_files_of_a_container_are_its_own() {
    let stage = Stage::new();
    let agent = &stage.agent;
    let line = "run -d --name c1 -h mydocker1 --domainname rayx.me --dns 8.8.8.8 --dns 9.9.9.9 \
                --dns-search example.com --dns-option ndots:3 --add-host www.rayx.me:54.12.17.68 \
                --add-host host.docker.internal:host-gateway";
    agent.ok(line);
    let mounts = inside(agent, "c1", "cat /proc/self/mountinfo");
    for file in ["/etc/hosts", "/etc/resolv.conf", "/etc/hostname"] {
        assert!(mounts.contains(&format!(" {file} ")), "{file}: {mounts}");
    }
    assert_eq!(inside(agent, "c1", "cat /etc/hostname; hostname"), "mydocker1\nmydocker1");
    assert_eq!(known_as(agent, "c1", "www.rayx.me"), ["54.12.17.68"]);
    assert_eq!(known_as(agent, "c1", "host.docker.internal"), ["172.17.0.1"]);
    let own = format!("{}\tmydocker1.rayx.me mydocker1", address(agent, "c1"));
    assert!(inside(agent, "c1", "cat /etc/hosts").contains(&own));
    assert_eq!(inside(agent, "c1", "hostname -f"), "mydocker1.rayx.me");
    let resolv = inside(agent, "c1", "cat /etc/resolv.conf");
    for line in ["nameserver 8.8.8.8\nnameserver 9.9.9.9", "search example.com", "options ndots:3"]
    {
        assert!(resolv.contains(line), "{line}: {resolv}");
    }
    let shown = agent.inspect("container", "c1");
    let host = &shown["HostConfig"];
    assert_eq!(host["Dns"], serde_json::json!(["8.8.8.8", "9.9.9.9"]));
    assert_eq!(host["DnsSearch"], serde_json::json!(["example.com"]));
    assert_eq!(host["DnsOptions"], serde_json::json!(["ndots:3"]));
    let hosts = ["www.rayx.me:54.12.17.68", "host.docker.internal:host-gateway"];
    assert_eq!(host["ExtraHosts"], serde_json::json!(hosts));
    assert_eq!(shown["Config"]["Domainname"], "rayx.me");
    let path = shown["HostsPath"].as_str().expect("a path");
    assert!(fs::read_to_string(path).expect("there").contains("54.12.17.68\twww.rayx.me"));
    // Not into anybody else's, and not into the list.
    agent.ok("run -d --name c2");
    assert!(!inside(agent, "c2", "cat /etc/hosts").contains("mydocker1"), "S126");
    assert!(!agent.ok("ps").contains("mydocker1"), "S126");
    for (line, text) in [
        ("create --add-host www", "bad format for add-host"),
        ("create --add-host www:1.2.3", "invalid IP address in add-host"),
        ("create --dns-search a/b", "invalid dns-search"),
        ("create --network container:c1 --dns 9.9.9.9", "conflicting options: dns and the network"),
        ("create --network container:c1 --add-host a:1.2.3.4", "custom host-to-IP mapping"),
    ] {
        let error = agent.refused(line);
        assert!(error.contains(text), "{line}: {error}");
    }
}

#[test]
fn s131_s132_s133_s134_s137_resolv_conf_is_the_hosts_until_somebody_edits_it() {
    let asking = Asking::new();
    let agent = &asking.stage.agent;
    for name in ["rests", "runs", "edits"] {
        agent.ok(&format!("run -d --name {name}"));
    }
    assert_eq!(inside(agent, "runs", "cat /etc/resolv.conf"), FIRST.trim(), "S131");
    inside(agent, "edits", "echo 'nameserver 192.0.2.99' > /etc/resolv.conf");
    inside(agent, "edits", "echo '192.0.2.1 mine' >> /etc/hosts");
    assert_eq!(known_as(agent, "edits", "mine"), ["192.0.2.1"]);
    let path = agent.inspect("container", "rests")["ResolvConfPath"].as_str().map(str::to_owned);
    let path = path.expect("a path");
    agent.ok("stop rests edits");
    let new = "nameserver 192.0.2.54\n";
    asking.host_asks(new);
    wait_until("the stopped one follows the host", SOON, || {
        fs::read_to_string(&path).is_ok_and(|text| text == new)
    });
    assert_eq!(inside(agent, "runs", "cat /etc/resolv.conf"), FIRST.trim(), "S133");
    agent.ok("stop runs");
    agent.ok("start rests runs edits");
    assert_eq!(inside(agent, "runs", "cat /etc/resolv.conf"), new.trim(), "S133");
    assert_eq!(inside(agent, "edits", "cat /etc/resolv.conf"), "nameserver 192.0.2.99", "S134");
    assert!(known_as(agent, "edits", "mine").is_empty(), "S137");
}

#[test]
fn moby_dns_014_moby_dns_017_the_host_has_servers_that_containers_do_not_reach() {
    let asking = Asking::new();
    let agent = &asking.stage.agent;
    let stub = "nameserver 127.0.0.53\noptions edns0\n";
    asking.host_asks(stub);
    agent.ok("run -d --name c1");
    let resolv = inside(agent, "c1", "cat /etc/resolv.conf");
    assert!(resolv.contains("nameserver 8.8.8.8\nnameserver 8.8.4.4\n"), "{resolv}");
    assert!(!resolv.contains("127.0.0.53"), "{resolv}");
    agent.ok("run -d --name hosted --network host");
    assert_eq!(inside(agent, "hosted", "cat /etc/resolv.conf"), stub.trim());
    let name = fs::read_to_string("/proc/sys/kernel/hostname").expect("a host name");
    assert_eq!(inside(agent, "hosted", "hostname"), name.trim());
    agent.ok(
        "run -d --name named --network host --hostname other --dns 9.9.9.9 --add-host a:1.2.3.4",
    );
    assert_eq!(inside(agent, "named", "hostname"), "other");
    assert!(inside(agent, "named", "cat /etc/resolv.conf").contains("nameserver 9.9.9.9"));
    assert_eq!(known_as(agent, "named", "a"), ["1.2.3.4"]);
}

#[test]
fn s146_s147_s151_moby_dns_033_links_of_the_default_network() {
    let mut stage = Stage::new();
    let run = "run -d --name db --expose 5432 -e MODE=fast -- sleep 600";
    stage.agent.ok(run);
    stage.agent.ok("run -d --name web --link db:sql");
    stage.agent.ok("run -d --name other");
    let agent = &stage.agent;
    let first = address(agent, "db");
    for name in ["sql", "db"] {
        assert_eq!(known_as(agent, "web", name), [first.as_str()], "{name}");
        assert!(known_as(agent, "other", name).is_empty(), "S139: {name}");
    }
    assert!(known_as(agent, "db", "web").is_empty(), "one way");
    inside(agent, "web", "ping -c 1 -W 5 sql");
    let variables = inside(agent, "web", "env");
    for wanted in [
        format!("SQL_PORT=tcp://{first}:5432"),
        format!("SQL_PORT_5432_TCP_ADDR={first}"),
        "SQL_PORT_5432_TCP_PORT=5432".to_owned(),
        "SQL_PORT_5432_TCP_PROTO=tcp".to_owned(),
        "SQL_NAME=/web/sql".to_owned(),
        "SQL_ENV_MODE=fast".to_owned(),
    ] {
        assert!(variables.lines().any(|line| line == wanted), "{wanted}: {variables}");
    }
    let out = agent.cli("run --rm --link db:sql -e SQL_NAME=own -- env".split(' '));
    assert!(out.stdout.contains("SQL_NAME=own\n"), "what is said counts: {out:?}");
    assert!(out.stdout.contains("SQL_PORT_5432_TCP_PORT=5432\n"), "{out:?}");

    // The target comes back with another address: what it had is somebody else's meanwhile.
    agent.ok("stop -t 0 db");
    assert!(known_as(agent, "web", "sql").is_empty());
    agent.ok("network disconnect bridge db");
    agent.ok("network connect bridge db");
    agent.ok("start db");
    let second = address(agent, "db");
    assert_ne!(first, second);
    assert_eq!(known_as(agent, "web", "sql"), [second.as_str()], "S147");
    assert!(
        inside(agent, "web", "env").contains(&format!("SQL_PORT_5432_TCP_ADDR={first}")),
        "S151: static"
    );
    stage.agent.restart();
    let agent = &stage.agent;
    assert_eq!(known_as(agent, "web", "sql"), [second.as_str()]);
    let shown = agent.inspect("container", "web");
    assert_eq!(shown["HostConfig"]["Links"], serde_json::json!(["/db:/web/sql"]));
    for (line, text) in [
        ("create --link bogus:b", "could not get container for bogus"),
        ("create --network host --link db", "host type networking can't be used with links"),
    ] {
        let error = agent.refused(line);
        assert!(error.contains(text), "{line}: {error}");
    }
    agent.ok("stop -t 0 db web");
    let error = agent.refused("start web");
    assert!(error.contains("Cannot link to a non running container: /db AS /web/sql"), "{error}");
}

#[test]
fn s143_moby_dns_021_hosts_of_others_do_not_change_and_brought_namespaces_are_offered_files() {
    let stage = Stage::new();
    let agent = &stage.agent;
    agent.network("n1", "");
    agent.ok("run -d --name c1 --network n1");
    let before = inside(agent, "c1", "cat /etc/hosts");
    let guest = Netns::new("guest");
    let path = guest.path();
    agent.ok(&format!(
        "run -d --name c2 --network n1 --netns {} --add-host a:1.2.3.4",
        path.display()
    ));
    assert_eq!(inside(agent, "c1", "cat /etc/hosts"), before);
    let shown = agent.inspect("container", "c2");
    let text = |key: &str| {
        let path = shown[key].as_str().expect("a path");
        assert!(Path::new(path).starts_with(agent.places.run()), "{key}: {path}");
        fs::read_to_string(path).expect("offered")
    };
    let own = format!("{}\t{}", address(agent, "c2"), &shown["Id"].as_str().expect("an id")[..12]);
    assert!(text("HostsPath").contains(&own) && text("HostsPath").contains("1.2.3.4\ta\n"));
    assert!(text("HostnamePath").trim().len() == 12);
    assert!(text("ResolvConfPath").contains("nameserver"));
    agent.ok("rm -f c2");
    assert!(!Path::new(shown["HostsPath"].as_str().expect("a path")).exists());
}

#[test]
fn s138_s142_s156_p108_moby_dns_012_moby_dns_013_moby_dns_024_programs_find_names_by_the_files_that_they_have()
 {
    let net = Topology::new();
    // Other names than containers' are refused at once, by nobody.
    let agent = Agent::start_with(&net.host, Settings::default().arg(&["--dns", "127.0.0.1"]));
    let stage = Stage { agent, net };
    let agent = &stage.agent;
    agent.network("n1", "");
    agent.network("n2", "");
    agent.ok("run -d --name c1 --network n1");
    agent.ok("run -d --name c2 --network n1 --network-alias app -h inner.example");
    agent.ok("network connect n2 c2");
    let two = attachment(agent, "c2", "n1")["IPAddress"].as_str().expect("an address").to_owned();
    let resolv = inside(agent, "c1", "cat /etc/resolv.conf");
    for line in ["nameserver 127.0.0.11", "options ", "# ExtServers: [127.0.0.1]"] {
        assert!(resolv.contains(line), "{line}: {resolv}");
    }
    assert!(resolv.contains("ndots:0"), "{resolv}");
    for name in ["c2", "C2", "c2.", "c2.n1", "app", "inner.example"] {
        let found = inside(agent, "c1", &format!("getent ahostsv4 {name}"));
        assert!(found.lines().all(|line| line.starts_with(&format!("{two} "))), "{name}: {found}");
        // A resolver of another make, which knows nothing of hosts files.
        let found = inside(agent, "c1", &format!("busybox nslookup {name}"));
        assert!(found.contains("127.0.0.11") && found.contains(&two), "{name}: {found}");
        let pinged = inside(agent, "c1", &format!("busybox ping -c 1 -W 10 {name}"));
        assert!(pinged.starts_with(&format!("PING {name} ({two})")), "{pinged}");
    }
    let out = agent.cli("exec c1 getent hosts nobody".split(' '));
    assert_eq!(out.code, 2, "{out:?}");
    // Its own name is there without the hosts file (MOBY-DNS-024).
    let own = inside(agent, "c2", "echo '127.0.0.1 localhost' > /etc/hosts; getent ahostsv4 c2");
    assert!(own.contains(&two), "{own}");
    // One of the default network has the names of the networks that it comes to.
    agent.ok("run -d --name late");
    assert!(!agent.cli("exec late getent hosts c2".split(' ')).ok(), "S139");
    agent.ok("network connect n1 late");
    assert!(inside(agent, "late", "getent ahostsv4 c2").contains(&two));
    // A namespace that is brought asks the gateway.
    let guest = Netns::new("guest");
    agent.ok(&format!("run -d --name guest --network n1 --netns {}", guest.path().display()));
    let path = agent.inspect("container", "guest")["ResolvConfPath"].clone();
    let text = fs::read_to_string(path.as_str().expect("a path")).expect("offered");
    let gateway = attachment(agent, "guest", "n1")["Gateway"].clone();
    let gateway = gateway.as_str().expect("a gateway");
    assert!(text.contains(&format!("nameserver {gateway}\n")), "{text}");
    let found = guest.sh(&format!("busybox nslookup c2 {gateway}"));
    assert!(found.contains(&two), "{found}");
}
