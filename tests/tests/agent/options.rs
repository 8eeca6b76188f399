//! The options of Docker's daemon: by file, environment and flags, at start and while the agent runs.

use bascule_tests::{Agent, Topology, agent::Settings, process, topology::HOST, wait};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

const FILE: &str = "\
bip = \"10.86.0.1/24\"
fixed_cidr = \"10.86.0.128/25\"
icc = false
ip = \"198.51.100.1\"
dns = [\"9.9.9.9\"]
dns_search = [\"example.com\"]
";

fn configure(agent: &Agent, text: &str) {
    std::fs::write(agent.places.root().join("bascule.toml"), text).expect("a configuration");
}

/// Sends SIGHUP and waits for what the agent says of it.
fn reload(agent: &Agent, said: &str) {
    let before = agent.log().matches(said).count();
    kill(Pid::from_raw(agent.pid().cast_signed()), Signal::SIGHUP).expect("SIGHUP");
    wait::wait_until("the configuration is read again", wait::SOON, || {
        agent.log().matches(said).count() > before
    });
}

#[test]
fn s57_s58_s60_s189_the_default_network_is_as_the_daemons_options_say() {
    let net = Topology::new();
    let settings = Settings::default().env("BASCULE_MTU", "1400");
    let mut agent = Agent::prepare(&net.host, settings);
    configure(&agent, FILE);
    agent.launch();
    agent.wait_ready();
    let network = agent.inspect("network", "bridge");
    let config = &network["IPAM"]["Config"][0];
    assert_eq!(
        (config["Subnet"].as_str(), config["Gateway"].as_str(), config["IPRange"].as_str()),
        (Some("10.86.0.0/24"), Some("10.86.0.1"), Some("10.86.0.128/25")),
        "S57, S58: {network}"
    );
    let c1 = agent.container("c1", "bridge", "-p 8080:80");
    let c2 = agent.container("c2", "bridge", "");
    assert_eq!(c1.address().octets()[3], 128, "S58: the first of the range");
    assert_eq!(agent.ok("port c1"), format!("80/tcp -> {HOST}:8080"), "S189: --ip");
    assert!(c1.ns.sh("ip link show eth0").contains("mtu 1400"), "S189: --mtu");
    let ping = c1.ns.try_sh(&format!("ping -c 1 -W 1 {}", c2.address()));
    assert!(!ping.ok(), "S96: --icc=false");
    let resolv = agent.ok("exec c1 cat /etc/resolv.conf");
    assert!(resolv.contains("nameserver 9.9.9.9\nsearch example.com"), "S129: {resolv}");

    // S60: what cannot change at run time is refused, and nothing of a file that has it is taken.
    configure(&agent, &FILE.replace("10.86.0", "10.87.0").replace("9.9.9.9", "8.8.8.8"));
    reload(&agent, "the configuration is not reloaded");
    let status = agent.api("GET", "/bascule/v1/status", None).body;
    let warnings = status["Warnings"].to_string();
    assert!(warnings.contains("bridge or bip, fixed-cidr cannot change while"), "{warnings}");
    assert_eq!(status["Dns"][0], "9.9.9.9");
    assert!(agent.ok("status").contains("DNS:          9.9.9.9, search example.com"));

    // What can change does.
    configure(&agent, &(FILE.replace("9.9.9.9", "8.8.8.8") + "log_level = \"debug\"\n"));
    reload(&agent, "the configuration was read again: dns, log-level");
    let status = agent.api("GET", "/bascule/v1/status", None).body;
    assert_eq!(
        (&status["Dns"][0], status["Warnings"].to_string().contains("reloaded")),
        (&"8.8.8.8".into(), false)
    );
    configure(&agent, &FILE.replace("icc = false", "icc = 7"));
    reload(&agent, "bascule.toml:3: icc: ");

    // S60: at the next start neither, as long as containers have addresses of the former subnet.
    agent.stop();
    configure(&agent, &FILE.replace("10.86.0", "10.87.0"));
    let mut command = agent.agent_command(&Settings::default());
    let out = process::run(&mut command, wait::START);
    assert_eq!(out.code, 1, "{out:?}");
    for part in ["cannot have 10.87.0.1/24 instead of 10.86.0.0/24", "name:\"c1\"", "stop these"] {
        assert!(out.stderr.contains(part), "{part}: {}", out.stderr);
    }
    configure(&agent, FILE);
    agent.launch();
    agent.wait_ready();
    agent.ok("stop -t 0 c1 c2");
    agent.stop();
    configure(&agent, &FILE.replace("10.86.0", "10.87.0").replace("icc = false", "icc = true"));
    agent.launch();
    agent.wait_ready();
    agent.ok("start c1");
    let address =
        agent.inspect("container", "c1")["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
            .to_string();
    assert!(address.contains("10.87.0."), "{address}");
}
