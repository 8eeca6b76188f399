//! What can be looked at: policy, connections, translations, maps, and the report of everything.

use std::process::Command;

use bascule_tests::{
    topology::{HOST, OUTSIDE},
    traffic::{self, TcpServer, UdpServer},
    wait,
};
use serde_json::Value;

use crate::{Stage, at};

/// The output of a command as JSON.
#[track_caller]
fn json(stage: &Stage, line: &str) -> Value {
    let text = stage.agent.ok(&format!("{line} --output json"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{line}: {error}: {text}"))
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("{key} of {value}"))
}

/// Verdict, reason and ports of the first rule of a stage from one to another.
fn rule(rules: &Value, stage: &str, from: &str, to: &str) -> Option<[String; 3]> {
    let rule = rules.as_array().expect("a list").iter().find(|rule| {
        (text(rule, "Stage"), text(rule, "From"), text(rule, "To")) == (stage, from, to)
    })?;
    Some(["Verdict", "Reason", "Ports"].map(|key| text(rule, key).to_owned()))
}

#[test]
fn s106_policy_ls_says_what_is_allowed_to_whom_and_why() {
    let stage = Stage::new();
    stage.agent.network("blue", "--subnet 10.73.0.0/24");
    stage.agent.network("quiet", "-o com.docker.network.bridge.enable_icc=false");
    stage.agent.network("inner", "--internal");
    stage.agent.network("open", "-o com.docker.network.bridge.gateway_mode_ipv4=routed");
    stage.agent.container("web", "blue", "-p 8080:80");
    let db = stage.agent.container("db", "quiet", "--expose 5432/tcp");
    let app = stage.agent.container("app", "quiet", "--link db:sql");
    stage.agent.ok("policy deny add 198.51.100.0/29 --comment scanners");
    wait::wait_until("the data plane has all of it", wait::SOON, || {
        let rules = json(&stage, "policy ls");
        rules.as_array().expect("a list").iter().all(|rule| rule["Applied"] == true)
    });
    let rules = json(&stage, "policy ls");
    for (at, from, to, verdict, reason, ports) in [
        ("deny-list", "198.51.100.0/29", "everyone, by an uplink", "deny", "deny_cidr", "any"),
        ("published", "everyone", "container web", "allow", "", "0.0.0.0:8080->80/tcp"),
        ("isolation", "network blue", "other networks", "deny", "policy_isolation", "any"),
        ("outbound", "network blue", "outside", "allow", "", "any"),
        ("direct", "outside", "network blue", "deny", "direct_routing_blocked", "any"),
        ("icc", "network blue", "network blue", "allow", "", "any"),
        ("icc", "network quiet", "network quiet", "deny", "policy_icc", "any"),
        ("link", "container app", "container db", "allow", "", "5432/tcp"),
        ("internal", "network inner", "outside", "deny", "policy_internal", "any"),
        ("direct", "outside and other networks", "network open", "allow", "", "echo"),
        ("host", "host", "network blue", "allow", "", "any"),
    ] {
        let wanted = [verdict, reason, ports].map(str::to_owned);
        assert_eq!(rule(&rules, at, from, to), Some(wanted), "{at}: {from} -> {to} in {rules:#}");
    }
    assert_eq!(rule(&rules, "outbound", "network inner", "outside"), None);

    // What it says is what becomes of packets.
    let _server = TcpServer::start(&db.ns, 5432);
    traffic::reaches(&app.ns, at(db.address(), 5432));
    traffic::unreachable(&db.ns, at(app.address(), 5432));
    assert!(stage.agent.metrics().drops("db", "policy_icc") > 0);

    // People see it in the order of judgement, with the reason why; and a part, if they ask for one.
    let table = stage.agent.ok("policy ls");
    let line = |words: &str| {
        let place = table.lines().position(|line| line.contains(words));
        place.unwrap_or_else(|| panic!("no {words} in:\n{table}"))
    };
    assert!(line("policy deny add: scanners") < line("published with -p"), "{table}");
    assert!(line("--link db:sql of app") < line("enable_icc=false; links open ports"), "{table}");
    let of_web = stage.agent.ok("policy ls --container web");
    assert!(of_web.contains("container web") && !of_web.contains("quiet"), "{of_web}");
    let of_quiet = stage.agent.ok("policy ls --network quiet");
    assert!(of_quiet.contains("container app") && !of_quiet.contains("blue"), "{of_quiet}");
    assert!(stage.agent.refused("policy ls --network nowhere").contains("nowhere not found"));

    // Nobody publishes what does not run.
    stage.agent.ok("stop web");
    assert_eq!(rule(&json(&stage, "policy ls"), "published", "everyone", "container web"), None);
}

#[test]
fn p87_connections_and_their_translation_are_listed_by_name() {
    let (stage, c1) = Stage::with_one("-p 8080:80");
    let _server = TcpServer::start(&c1.ns, 80);
    let _world = UdpServer::start(&stage.net.outside, 53);
    traffic::reaches(&stage.net.outside, at(HOST, 8080));
    traffic::exchange(&c1.ns, at(OUTSIDE, 53), 10);
    let listed = json(&stage, "conntrack ls --container c1");
    let all = listed["Connections"].as_array().expect("a list");
    let find = |kind: &str| {
        let found = all.iter().find(|connection| connection["Kind"] == kind);
        found.unwrap_or_else(|| panic!("no {kind} in {listed:#}"))
    };
    let published = find("published");
    assert_eq!((text(published, "From"), text(published, "To")), ("outside", "c1"));
    assert_eq!(text(published, "Destination"), format!("{HOST}:8080"));
    assert_eq!(text(published, "TranslatedDestination"), format!("{}:80", c1.address()));
    assert_eq!(text(published, "Published"), "0.0.0.0:8080");
    let out = find("masqueraded");
    assert_eq!((text(out, "Proto"), text(out, "From"), text(out, "To")), ("udp", "c1", "outside"));
    assert!(text(out, "Source").starts_with(&format!("{}:", c1.address())), "{out}");
    assert!(text(out, "TranslatedSource").starts_with(&format!("{HOST}:")), "{out}");
    assert_eq!(text(out, "State"), "open");
    let table = stage.agent.ok("nat ls --proto udp");
    assert!(table.contains(&format!(" => {HOST}:")), "{table}");
    assert_eq!(stage.agent.ok("conntrack ls --proto sctp").lines().count(), 1);
    let out = stage.agent.cli(["conntrack", "ls", "--limit", "1"]);
    assert_eq!(out.stdout.lines().count(), 2, "{out:?}");
    assert!(out.stderr.contains("more; --limit 0 lists all"), "{out:?}");
}

#[test]
fn p87_maps_are_listed_and_dumped_by_name() {
    let (stage, _c1) = Stage::with_one("");
    let maps = json(&stage, "map ls");
    let maps = maps.as_array().expect("a list");
    let endpoints = maps.iter().find(|map| map["Name"] == "NEIGHBOURS4").expect("a map");
    // The container, and the server of names.
    assert_eq!((text(endpoints, "Kind"), &endpoints["Entries"]), ("hash", &2.into()));
    assert!(maps.iter().all(|map| map["Capacity"].as_u64() > Some(0)), "{maps:#?}");
    assert!(maps.iter().any(|map| map["MemoryBytes"].as_u64() > Some(1 << 20)), "{maps:#?}");
    let dumped = stage.agent.ok("map dump NEIGHBOURS4");
    assert!(dumped.contains("=> Neighbour {"), "{dumped}");
    assert!(stage.agent.refused("map dump NOTHING").contains("there is no map NOTHING"));
}

#[test]
fn p94_the_status_tells_everything_where_it_is_asked_for() {
    let (stage, c1) = Stage::with_one("");
    let _world = UdpServer::start(&stage.net.outside, 53);
    traffic::exchange(&c1.ns, at(OUTSIDE, 53), 10);
    assert!(json(&stage, "status")["Details"].is_null(), "nobody asked for it");
    // The census is as old as a second.
    let details = wait::wait_for("a masqueraded connection", wait::SOON, || {
        let details = json(&stage, "status --verbose")["Details"].clone();
        details["Nat"].as_array().is_some_and(|nat| !nat.is_empty()).then_some(details)
    });
    let nat = &details["Nat"][0];
    assert_eq!((text(nat, "Address"), text(nat, "Proto")), (HOST.to_string().as_str(), "udp"));
    assert_eq!((&nat["Connections"], &nat["PortsInUse"]), (&1.into(), &1.into()), "{nat}");
    assert!(nat["Ports"].as_u64() > Some(1_000), "{nat}");
    let of = |list: &str, key: &str, value: &str| -> Value {
        let found = details[list].as_array().expect("a list").iter().find(|e| e[key] == value);
        found.cloned().unwrap_or_else(|| panic!("no {value} in {list} of {details:#}"))
    };
    let program = of("Programs", "Program", "from_uplink");
    assert_eq!((text(&program, "Interface"), text(&program, "Hook")), ("up0", "ingress"));
    assert!(["tcx", "clsact"].contains(&text(&program, "Mode")), "{program}");
    assert_eq!(of("Maps", "Name", "NEIGHBOURS4")["Entries"], 2);
    let network = of("Networks", "Network", "n1");
    // The first and the last, which nobody can have, the gateway's, and the container's.
    assert_eq!((&network["AddressesInUse"], &network["Connections"]), (&4.into(), &1.into()));
    assert_eq!(of("Tracked", "Proto", "udp")["Connections"], 1);
    assert_eq!(text(&details["Versions"], "agent"), env!("CARGO_PKG_VERSION"));
    assert_eq!(text(&details["Supported"], "helper redirect_neigh"), "yes");

    // People get tables below what they get without it.
    let brief = stage.agent.ok("status");
    let told = stage.agent.ok("status -v");
    assert!(told.starts_with("Agent: ") && !brief.contains("\nPrograms\n"), "{brief}\n{told}");
    for part in ["\nVersions\n", "\nPrograms\nINTERFACE ", "\nMaps\nNAME ", " 1 of "] {
        assert!(told.contains(part), "no {part:?} in:\n{told}");
    }
}

#[test]
fn p94_a_bugreport_has_everything_but_secrets() {
    let stage = Stage::new();
    stage.agent.network("n1", "--label token=hunter2");
    stage.agent.ok("run -d --name c1 --network n1 --label pass=hunter2 -p 8080:80");
    stage.agent.ok("run -d --name c2 --network n1 -- sleep 60.0hunter2");
    let file = stage.agent.places.root().join("report.tar.gz");
    let shown = stage.agent.ok(&format!("bugreport {}", file.display()));
    assert_eq!(shown, file.display().to_string());
    let tar = |flags: &[&str]| {
        let out = Command::new("tar").args(flags).arg(&file).output().expect("tar");
        assert!(out.status.success(), "{out:?}");
        String::from_utf8_lossy(&out.stdout).into_owned()
    };
    let list = tar(&["-tzf"]);
    for path in [
        "status.json",
        "networks.json",
        "containers.json",
        "policy.json",
        "connections.json",
        "maps.json",
        "maps/NEIGHBOURS4.txt",
        "maps/PORTS.txt",
        "programs.json",
        "attached.txt",
        "metrics.txt",
        "agent.log",
        "host/ip_address.txt",
        "host/nft_list_ruleset.txt",
    ] {
        assert!(list.lines().any(|line| line.ends_with(path)), "{path} is missing in:\n{list}");
    }
    let everything = tar(&["-xzOf"]);
    assert!(!everything.contains("hunter2"), "a secret got out");
    for word in ["from_container", "prog_tag", "\"c1\"", "bascule_build_info", "ready"] {
        assert!(everything.contains(word), "{word} is not told:\n{everything}");
    }
    // It holds what the host's firewall says, and does not write over what is there.
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(&file).expect("the file").permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
    let again = stage.agent.cli(["bugreport", &file.display().to_string()]);
    assert!(!again.ok() && again.stderr.contains("File exists"), "{again:?}");
}
