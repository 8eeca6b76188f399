//! Places: flags before environment before file, and directories that have to be right.

use bascule_tests::{Agent, Topology, agent::Settings};

#[test]
fn s191_the_configuration_file_counts_where_nothing_else_is_said() {
    let net = Topology::new();
    let mut agent = Agent::prepare(&net.host, Settings::default());
    let file = agent.places.root().join("bascule.toml");
    std::fs::write(&file, "bridge = \"none\"\n").expect("a configuration");
    agent.launch();
    agent.wait_ready();
    assert!(!net.host.interfaces().contains(&"bascule0".to_owned()));
    agent.stop();
    agent.launch_with(&Settings::default().arg(&["--bip", "10.86.0.1/24"]));
    agent.wait_ready();
    assert_eq!(net.host.addresses("bascule0")[0].0.to_string(), "10.86.0.1");
}

#[test]
fn a_configuration_that_is_wrong_is_refused_with_its_line() {
    let net = Topology::new();
    let agent = Agent::prepare(&net.host, Settings::default());
    let mut command = agent.agent_command(&Settings::default());
    let file = agent.places.root().join("bascule.toml");
    std::fs::write(&file, "# fine\nnosuch_key = 1\n").expect("a configuration");
    let out = bascule_tests::process::run(&mut command, bascule_tests::wait::START);
    assert!(matches!(out.code, 1 | 2), "{out:?}");
    assert!(out.stderr.contains("nosuch_key"), "{}", out.stderr);
    assert!(out.stderr.contains(":2"), "names the line: {}", out.stderr);
}

#[test]
fn s6_the_default_network_is_made_at_the_first_start() {
    let net = Topology::new();
    let agent = Agent::start(&net.host);
    assert_eq!(net.host.addresses("bascule0")[0].0.to_string(), "172.17.0.1");
    let listed = agent.ok("network ls");
    for (name, driver) in [("bridge", "bridge"), ("none", "null"), ("host", "host")] {
        let found = listed.lines().any(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            words.get(1) == Some(&name) && words.get(2) == Some(&driver)
        });
        assert!(found, "S5: {name} with driver {driver}: {listed}");
    }
    let c1 = agent.container("c1", "bridge", "");
    assert_eq!(c1.address().to_string(), "172.17.0.2", "S22, S55");
}

#[test]
fn s56_the_default_network_gives_way_to_what_the_host_uses() {
    let net = Topology::new();
    net.host.sh("ip addr add 172.17.3.1/24 dev up0");
    let _agent = Agent::start(&net.host);
    let chosen = net.host.addresses("bascule0")[0].0.to_string();
    assert!(!chosen.starts_with("172.17."), "{chosen}");
}

#[test]
fn the_log_can_be_json() {
    let net = Topology::new();
    let settings = Settings::default().arg(&["--log-format", "json"]);
    let mut agent = Agent::start_with(&net.host, settings);
    agent.network("n1", "");
    agent.stop();
    let lines: Vec<String> = agent.log().lines().map(str::to_owned).collect();
    let json = lines.iter().filter(|line| line.starts_with('{'));
    let mut count = 0;
    for line in json {
        serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        count += 1;
    }
    assert!(count > 2, "{lines:?}");
}
