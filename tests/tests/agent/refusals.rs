//! Every bad input gets a clear error and changes nothing.

use bascule_tests::{Agent, Netns, Topology, process::Output};

/// Everything that a refused request must leave as it is.
fn everything(agent: &Agent) -> Vec<String> {
    let mut all = vec![
        agent.ok("network ls --no-trunc"),
        agent.ok("container ls -a --no-trunc -q"),
        agent.ok("network inspect n1"),
        agent.ok("port c1"),
        agent.host.sh("ip -4 -o addr show"),
        agent.host.sh("ip -4 route show"),
        agent.host.sysctl("net/ipv4/ip_local_reserved_ports"),
    ];
    all.extend(agent.host.interfaces());
    all.extend(agent.places.pins());
    all
}

/// An agent with a network `n1` (10.84.0.0/24) and a running container `c1` (10.84.0.2).
fn prepared(net: &Topology) -> Agent {
    let agent = Agent::start(&net.host);
    agent.network("n1", "--subnet 10.84.0.0/24");
    agent.container("c1", "n1", "-p 8080:80");
    agent
}

/// Demands that each line is refused with an error that contains its words, and changes nothing.
#[track_caller]
fn refuses(agent: &Agent, cases: &[(&str, &[&str])]) {
    let before = everything(agent);
    for (line, wanted) in cases {
        // 2 where the command line itself makes no sense.
        let out = agent.cli(line.split_whitespace());
        assert!(matches!(out.code, 1 | 2), "`bascule {line}`: {out:?}");
        assert_eq!(out.stdout, "", "`bascule {line}` printed something although it failed");
        let error = out.stderr;
        assert!(!error.trim().is_empty(), "`bascule {line}` failed without a word");
        for words in *wanted {
            assert!(error.contains(words), "`bascule {line}` says {error:?}, not {words:?}");
        }
        assert!(!error.contains("panicked"), "{error}");
        assert_eq!(everything(agent), before, "`bascule {line}` changed something");
    }
}

#[test]
fn bad_networks() {
    let net = Topology::new();
    let agent = prepared(&net);
    refuses(
        &agent,
        &[
            // S47: with another network, inside and around it.
            ("network create --subnet 10.84.0.0/24 x", &["Pool overlaps"]),
            ("network create --subnet 10.84.0.128/25 x", &["Pool overlaps"]),
            ("network create --subnet 10.84.0.0/16 x", &["Pool overlaps"]),
            ("network create --subnet 10.85.0.0/24 --gateway 10.86.0.1 x", &["10.86.0.1"]),
            ("network create --subnet 10.85.0.0/24 --gateway 10.85.0.255 x", &["10.85.0.255"]),
            ("network create --subnet 10.85.0.1/24 x", &["10.85.0.0/24"]),
            ("network create --subnet 10.85.0.0/32 x", &[]),
            ("network create --subnet 127.0.0.0/24 x", &[]),
            ("network create --subnet 224.1.0.0/24 x", &[]),
            ("network create n1", &["network with name n1 already exists"]),
            ("network create bridge", &["bridge"]),
            ("network create -o com.docker.network.driver.mtu=none x", &["mtu"]),
            ("network create -o com.docker.network.driver.mtu=60 x", &["60"]),
            ("network create -o com.docker.network.bridge.enable_icc=perhaps x", &["enable_icc"]),
            ("network create -d overlay x", &["overlay"]),
            ("network rm n1", &["has active endpoints", "c1"]),
            ("network rm bridge", &["pre-defined"]),
            ("network rm nosuch", &["network nosuch not found"]),
            ("network inspect nosuch", &["network nosuch not found"]),
            ("network connect nosuch c1", &["network nosuch not found"]),
            ("network connect n1 nosuch", &["nosuch"]),
            ("network connect n1 c1", &["c1", "n1"]),
            ("network disconnect bridge c1", &["is not connected to network bridge"]),
            ("network disconnect n1 nosuch", &["nosuch"]),
        ],
    );
}

#[test]
fn a_subnet_that_the_host_reaches_already_is_refused() {
    let net = Topology::new();
    let agent = prepared(&net);
    // The host's own segment: containers in it would cut the host off.
    refuses(&agent, &[("network create --subnet 198.51.100.0/25 x", &["198.51.100"])]);
}

#[test]
fn bad_containers() {
    let net = Topology::new();
    let agent = prepared(&net);
    refuses(
        &agent,
        &[
            ("container create --name x --network nosuch", &["network nosuch not found"]),
            ("container create --name c1 --network n1", &["c1"]),
            ("container create --name x --network n1 --ip 10.99.0.9", &["10.99.0.9"]),
            ("container create --name x --network n1 --ip 10.84.0.2", &["Address already in use"]),
            ("container create --name x --network n1 --ip 10.84.0.1", &["Address already in use"]),
            ("container create --name x --network n1 --ip 10.84.0.255", &[]),
            ("container create --name x --network n1 --ip 10.84.0.0", &[]),
            (
                "container create --name x --ip 172.17.0.9",
                &["user-specified IP address is supported on user-defined networks only"],
            ),
            ("container create --name x --network n1 --mac-address 03:00:00:00:00:01", &["03:00"]),
            ("container create --name _x --network n1", &["_x"]),
            ("container start nosuch", &["nosuch"]),
            ("container stop nosuch", &["nosuch"]),
            ("container rm nosuch", &["nosuch"]),
            ("container rm c1", &["c1"]),
            ("container inspect nosuch", &["nosuch"]),
            ("port nosuch", &["nosuch"]),
        ],
    );
}

#[test]
fn moby_pm_030_bad_ports() {
    let net = Topology::new();
    let agent = prepared(&net);
    let specs = [
        "",
        ":",
        ":80:",
        "0:80",
        "80:0",
        "70000:80",
        "80:70000",
        "-1:80",
        "a:80",
        "80:b",
        "80:80/sctpx",
        "80:80/",
        "80:80/icmp",
        "8000-8001:80-82",
        "8001-8000:81-80",
        "8000-:80",
        "-8000:80",
        "1.2.3:80:80",
        "1.2.3.400:80:80",
        "host:80:80",
        "1.2.3.4:5:6:7",
    ];
    let before = everything(&agent);
    for spec in specs {
        let out = agent.cli(["container", "create", "--name", "x", "--network", "n1", "-p", spec]);
        assert!(matches!(out.code, 1 | 2), "-p {spec:?}: {out:?}");
        assert_eq!(out.stdout, "", "-p {spec:?}");
        assert!(!out.stderr.trim().is_empty(), "-p {spec:?} is refused without a word");
        if !spec.is_empty() {
            assert!(out.stderr.contains(spec), "-p {spec:?} is not named: {}", out.stderr);
        }
        assert_eq!(everything(&agent), before, "-p {spec:?} changed something");
    }
}

#[test]
fn bad_namespaces() {
    let net = Topology::new();
    let agent = prepared(&net);
    let foreign = Netns::new("foreign");
    let path = foreign.path().display().to_string();
    agent.ok(&format!("container create --name brought --network n1 --netns {path}"));
    agent.ok("container start brought");
    let before = everything(&agent);
    let own = net.host.path().display().to_string();
    let no_process = i32::MAX.to_string();
    for (option, value, words) in [
        ("--netns", "/nonexistent/ns", "/nonexistent/ns"),
        ("--netns", "/etc/passwd", "/etc/passwd"),
        ("--netns", own.as_str(), ""),
        ("--netns", path.as_str(), "brought"),
        ("--pid", no_process.as_str(), no_process.as_str()),
    ] {
        // Some are refused at once, some when the namespace is looked at.
        let line = format!("container create --name x --network n1 {option} {value}");
        let created = agent.cli(line.split(' '));
        let out = if created.ok() { agent.cli(["container", "start", "x"]) } else { created };
        assert_eq!(out.code, 1, "{option} {value}: {out:?}");
        assert!(out.stderr.contains(words), "{option} {value}: {}", out.stderr);
        agent.cli(["container", "rm", "-f", "x"]);
        assert_eq!(everything(&agent), before, "{option} {value} changed something");
    }
    // An interface of that name is there already.
    let taken = Netns::new("taken");
    taken.sh("ip link add eth0 type bridge");
    let line = format!("container create --name x --network n1 --netns {}", taken.path().display());
    let created = agent.cli(line.split(' '));
    let out = if created.ok() { agent.cli(["container", "start", "x"]) } else { created };
    assert_eq!(out.code, 1, "{out:?}");
    assert!(out.stderr.contains("eth0"), "{}", out.stderr);
    assert_eq!(taken.interfaces(), ["lo", "eth0"]);
}

#[test]
fn usage_errors_have_exit_code_2() {
    let net = Topology::new();
    let agent = prepared(&net);
    for line in [
        "network create",
        "network create --subnet notasubnet x",
        "network create --nosuch x",
        "container create --ip notanaddress x",
        "nosuch",
        "network connect n1",
        "agent --metrics-listen nowhere",
    ] {
        let out = agent.cli(line.split(' '));
        assert_eq!(out.code, 2, "`bascule {line}`: {out:?}");
        assert!(out.stderr.contains("error"), "`bascule {line}`: {}", out.stderr);
    }
    let out = agent.cli(["--help"]);
    assert_eq!((out.code, out.stderr.as_str()), (0, ""));
}

/// Runs `bascule agent` in a way that cannot work.
fn fails(agent: &Agent, wrapper: &[&str]) -> Output {
    let mut command = agent.host.command(wrapper[0]);
    command.args(&wrapper[1..]).arg(bascule_tests::agent::binary()).arg("agent");
    for (name, value) in agent.agent_command(&Default::default()).get_envs() {
        if let Some(value) = value {
            command.env(name, value);
        }
    }
    bascule_tests::process::run(&mut command, bascule_tests::wait::START)
}

#[test]
fn without_root_it_says_so() {
    let net = Topology::new();
    let agent = Agent::prepare(&net.host, Default::default());
    let before = net.host.interfaces();
    let out = fails(&agent, &["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]);
    assert_eq!(out.code, 1, "{out:?}");
    assert!(out.stderr.contains("root"), "{}", out.stderr);
    assert_eq!(net.host.interfaces(), before);
    assert_eq!(agent.places.pins(), Vec::<String>::new());
}

#[test]
fn without_the_right_to_bpf_it_says_so() {
    let net = Topology::new();
    let agent = Agent::prepare(&net.host, Default::default());
    let before = net.host.interfaces();
    let out = fails(&agent, &["setpriv", "--bounding-set=-bpf,-sys_admin,-perfmon"]);
    assert_eq!(out.code, 1, "{out:?}");
    assert!(out.stderr.to_lowercase().contains("bpf"), "{}", out.stderr);
    assert!(out.stderr.contains("CAP_"), "says what it needs: {}", out.stderr);
    assert_eq!(net.host.interfaces(), before);
    assert_eq!(agent.places.pins(), Vec::<String>::new());
}

#[test]
fn without_an_agent_the_client_says_so() {
    let net = Topology::new();
    let agent = Agent::prepare(&net.host, Default::default());
    let out = agent.cli(["network", "ls"]);
    assert_eq!(out.code, 1, "{out:?}");
    let socket = agent.places.socket().display().to_string();
    assert!(out.stderr.contains(&socket), "names the socket: {}", out.stderr);
}

#[test]
fn a_metrics_address_that_is_taken_is_an_error() {
    let net = Topology::new();
    let agent = Agent::prepare(&net.host, Default::default());
    let _holder = bascule_tests::traffic::TcpServer::start(&net.host, 9477);
    let mut command = agent.agent_command(&Default::default());
    let out = bascule_tests::process::run(&mut command, bascule_tests::wait::START);
    assert_eq!(out.code, 1, "{out:?}");
    assert!(out.stderr.contains("9477"), "{}", out.stderr);
}

#[test]
fn nonsense_on_the_socket_is_answered_and_survived() {
    use std::io::{Read, Write};
    let net = Topology::new();
    let agent = prepared(&net);
    for bytes in [&b"\x00\xff\xfe\r\n\r\n"[..], b"GET", b"BREW / HTTP/9.9\r\n\r\n", b"{}\r\n\r\n"] {
        let mut socket =
            std::os::unix::net::UnixStream::connect(agent.places.socket()).expect("a socket");
        socket.set_read_timeout(Some(std::time::Duration::from_secs(5))).expect("a timeout");
        socket.write_all(bytes).expect("write");
        socket.shutdown(std::net::Shutdown::Write).expect("shutdown");
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).ok();
        assert!(!String::from_utf8_lossy(&answer).contains(" 200 "), "{bytes:?}");
    }
    let not_found = agent.api("GET", "/nosuch", None);
    assert_eq!((not_found.status, not_found.message()), (404, "page not found"));
    let nonsense = serde_json::json!({"Name": 7});
    let refused = agent.api("POST", "/networks/create", Some(&nonsense));
    assert_eq!(refused.status, 400, "{refused:?}");
    assert!(!refused.message().is_empty());
    assert!(agent.answers());
}

#[test]
fn an_agent_without_its_capabilities_says_which_it_lacks() {
    let host = Netns::new("host");
    let mut agent = Agent::prepare(&host, bascule_tests::agent::Settings::default());
    for (flag, name) in [("net_admin", "CAP_NET_ADMIN"), ("sys_admin", "CAP_SYS_ADMIN")] {
        for words in [&["agent"][..], &["agent", "cleanup"]] {
            let bare = agent.bascule();
            let mut command = host.command("setpriv");
            command.args([&format!("--bounding-set=-{flag}"), "--"]).arg(bare.get_program());
            command
                .args(words)
                .envs(bare.get_envs().filter_map(|(key, value)| Some((key, value?))));
            let out = bascule_tests::process::run(&mut command, bascule_tests::process::LIMIT);
            assert_eq!(out.code, 1, "{out:?}");
            assert!(out.stderr.contains(&format!("the agent lacks {name}")), "{out:?}");
        }
    }
    assert!(agent.has_ended());
    assert_eq!(agent.places.pins(), Vec::<String>::new());
}

#[test]
fn a_store_that_does_not_read_is_refused_with_what_to_do() {
    let net = Topology::new();
    let mut agent = prepared(&net);
    agent.kill9();
    let store = agent.places.state().join("bascule.redb");
    let length = std::fs::metadata(&store).expect("the store").len();
    let length = usize::try_from(length).expect("small");
    for text in ["no database at all".repeat(1000).into_bytes(), vec![0x5a; length], Vec::new()] {
        std::fs::write(&store, &text).expect("damage it");
        agent.launch();
        if text.is_empty() {
            // An empty file is a new store.
            agent.wait_ready();
            agent.kill9();
            continue;
        }
        assert_eq!(agent.wait_end(), 1);
        let log = agent.log();
        let said = log.lines().last().unwrap_or_default();
        assert!(said.contains("bascule.redb") && said.contains("cleanup --purge"), "{log}");
    }
    std::fs::write(&store, "no database at all").expect("damage it");
    let out = agent.cleanup(&["--purge"]);
    assert!(out.ok(), "{out:?}");
    assert!(!store.exists());
    agent.launch();
    agent.wait_ready();
}
