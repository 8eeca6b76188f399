//! `bascule network`: what the verbs take, print and refuse.

use bascule_tests::{Agent, Topology, process::Output};
use serde_json::{Value, json};

fn stage() -> (Topology, Agent) {
    let net = Topology::new();
    let agent = Agent::start(&net.host);
    (net, agent)
}

fn run(agent: &Agent, line: &str) -> Output {
    agent.cli(line.split_whitespace())
}

/// Runs the client and answers its question.
fn answered(agent: &Agent, line: &str, answer: &str) -> (i32, String) {
    use std::{io::Write, process::Stdio};
    let mut command = agent.bascule();
    command.args(line.split_whitespace()).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut client = command.stderr(Stdio::piped()).spawn().expect("start the client");
    client.stdin.take().expect("a pipe").write_all(answer.as_bytes()).expect("an answer");
    let out = client.wait_with_output().expect("the client ends");
    let text = [out.stdout, out.stderr].concat();
    (out.status.code().expect("a code"), String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn s5_s7_p2_lists_have_dockers_columns_filters_and_formats() {
    let (_net, agent) = stage();
    let id = agent.network("web", "--label team=a --label x --internal --ipv6");
    agent.network("db", "--label team=b");
    let table = agent.ok("network ls");
    let rows: Vec<Vec<_>> = table.lines().map(|l| l.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["NETWORK", "ID", "NAME", "DRIVER", "SCOPE"]);
    let names: Vec<_> = rows[1..].iter().map(|row| row[1..].to_vec()).collect();
    let expected = [
        ["bridge", "bridge", "local"],
        ["db", "bridge", "local"],
        ["host", "host", "local"],
        ["none", "null", "local"],
        ["web", "bridge", "local"],
    ];
    assert_eq!(names, expected);
    assert!(rows[1..].iter().all(|row| row[0].len() == 12));
    let ls = |words: &str| {
        agent.ok(&format!("network ls {words} --format {{{{.Name}}}}")).replace('\n', " ")
    };
    for (filter, names) in [
        ("driver=bridge", "bridge db web"),
        ("driver=null", "none"),
        ("driver=bridge -f driver=host", "bridge db host web"),
        ("name=e", "bridge none web"),
        ("name=^web$", "web"),
        ("type=builtin", "bridge host none"),
        ("type=custom", "db web"),
        ("dangling=true", "db web"),
        ("scope=local -f type=custom", "db web"),
        ("scope=swarm", ""),
        ("label=team", "db web"),
        ("label=team=a", "web"),
        ("label=team -f label=x", "web"),
    ] {
        assert_eq!(ls(&format!("-f {filter}")), names, "{filter}");
    }
    assert_eq!(agent.ok(&format!("network ls -q --no-trunc -f id={}", &id[..12])), id);
    assert_eq!(agent.ok("network ls -q -f name=web"), id[..12]);
    for (bad, code) in [("foo=1", 2), ("type=x", 1), ("dangling=perhaps", 1)] {
        assert_eq!(run(&agent, &format!("network ls -f {bad}")).code, code, "{bad}");
    }
    let format = |format: &str| {
        let out = agent.cli(["network", "ls", "-f", "name=web", "--format", format]);
        assert!(out.ok(), "{out:?}");
        out.stdout
    };
    assert_eq!(format("{{.Name}}/{{.Driver}}\\t{{.Labels}}"), "web/bridge\tteam=a,x=\n");
    assert_eq!(
        format("{{.IPv4}} {{.IPv6}} {{.Internal}} {{.Label \"team\"}}"),
        "true true true a\n"
    );
    assert_eq!(format("table {{.Name}}\\t{{.Driver}}"), "NAME      DRIVER\nweb       bridge\n");
    let row: Value = serde_json::from_str(&format("json")).expect("JSON");
    assert_eq!((&row["Name"], &row["IPv6"]), (&json!("web"), &json!("true")));
    assert!(format("raw").contains("name: web\ndriver: bridge\n"));
    assert_eq!(agent.cli(["network", "ls", "--format", "{{.Nope}}"]).code, 2);
}

#[test]
fn s8_s10_s11_s14_p3_networks_are_inspected_as_json_by_template_and_as_they_once_were() {
    let (_net, agent) = stage();
    let id = agent.network("n1", "--subnet 172.25.0.0/16 --ipam-opt a=b");
    agent.network("n2", "");
    let c1 = agent.container("c1", "n1", "");
    // Of several, those that exist are shown, and the others named.
    let out = run(&agent, "network inspect n1 nosuch n2");
    assert_eq!(
        (out.code, out.stderr.trim()),
        (1, "Error response from daemon: network nosuch not found")
    );
    let shown: Value = serde_json::from_str(&out.stdout).expect("JSON");
    let names: Vec<_> = shown.as_array().expect("a list").iter().map(|n| &n["Name"]).collect();
    assert_eq!(names, ["n1", "n2"]);
    assert_eq!(shown[0]["IPAM"]["Options"], json!({"a": "b"}));
    assert_eq!(shown[1]["Containers"], json!({}), "S11");
    let format = |format: &str| {
        let out = agent.cli(["network", "inspect", "-f", format, "n1", &id[..12]]);
        assert!(out.ok(), "{out:?}");
        out.stdout
    };
    let gateways = "{{range .IPAM.Config}}{{.Gateway}}{{end}}";
    assert_eq!(format(gateways), "172.25.0.1\n172.25.0.1\n");
    let containers = "{{range $id, $c := .Containers}}{{printf \"%.12s\" $id}} {{$c.Name}} {{$c.IPv4Address}}{{end}}";
    let line = format!("{} c1 172.25.0.2/16\n", &c1.id[..12]);
    assert_eq!(format(containers), format!("{line}{line}"));
    assert_eq!(agent.ok("network inspect -v -f {{.ID}} n1"), id);
    // S14: one object, lower-case keys.
    let legacy: Value =
        serde_json::from_str(&agent.ok("network inspect --format legacy n1")).expect("JSON");
    let place = &legacy["containers"][&c1.id];
    assert_eq!((&legacy["name"], &legacy["driver"]), (&json!("n1"), &json!("bridge")));
    assert_eq!(legacy["id"], json!(id));
    assert_eq!(place["ipv4_address"], "172.25.0.2/16");
    assert_eq!(
        (&place["mac_address"], &place["ipv6_address"]),
        (&json!("02:42:ac:19:00:02"), &json!(""))
    );
    assert_eq!(place["endpoint"].as_str().map(str::len), Some(64));
}

#[test]
fn s3_s182_p7_moby_api_015_moby_api_016_drivers_and_clusters_are_refused_in_dockers_words() {
    let (_net, agent) = stage();
    let no_swarm = "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to \
                    connect this node to swarm and try again: no cluster store is set";
    for (words, text) in [
        ("-d overlay", no_swarm),
        ("--scope swarm", no_swarm),
        ("--scope global", no_swarm),
        ("--scope here", "invalid network scope \"here\""),
        ("--ingress", "Ingress network can only be global scope network"),
        ("-d host", "only one instance of \"host\" network is allowed"),
        ("-d null", "only one instance of \"null\" network is allowed"),
        (
            "-d macvlan",
            "could not find plugin macvlan in v1 plugin registry: plugin \"macvlan\" not found",
        ),
        (
            "-d ipvlan",
            "could not find plugin ipvlan in v1 plugin registry: plugin \"ipvlan\" not found",
        ),
        (
            "-d weave",
            "could not find plugin weave in v1 plugin registry: plugin \"weave\" not found",
        ),
        ("--ipam-driver null", "ipv4 pool is empty"),
        (
            "--ipam-driver mine",
            "could not find plugin mine in v1 plugin registry: plugin \"mine\" not found",
        ),
        ("--ipv4=false", "IPv4 or IPv6 must be enabled"),
        (
            "-o com.docker.network.enable_ipv6=maybe",
            "driver-opt \"com.docker.network.enable_ipv6\" is not a valid bool",
        ),
        ("--config-from nosuch", "configuration network \"nosuch\" does not exist"),
    ] {
        let error = agent.refused(&format!("network create {words} x"));
        let error = error.strip_prefix("Error response from daemon: ").unwrap_or(&error);
        assert!(error.starts_with(text) || error.ends_with(text), "{words}: {error}");
    }
    assert_eq!(agent.ok("network ls -q -f type=custom"), "");
    for (body, status) in [
        (json!({"Name": "x", "Driver": "overlay"}), 403),
        (json!({"Name": "x", "Driver": "weave"}), 404),
        (json!({"Name": "x", "Driver": "host"}), 403),
    ] {
        assert_eq!(agent.api("POST", "/networks/create", Some(&body)).status, status, "{body}");
    }
    agent.network("n", "-o com.docker.network.enable_ipv6=true --attachable --scope local");
    let inspected = agent.inspect("network", "n");
    assert_eq!((&inspected["EnableIPv6"], &inspected["Attachable"]), (&json!(true), &json!(true)));
}

#[test]
fn p19_all_that_is_wrong_with_a_network_is_said_at_once() {
    let (_net, agent) = stage();
    let error = agent.refused(
        "network create -o com.docker.network.driver.mtu=x -o com.docker.network.bridge.enable_icc=maybe \
         --subnet 10.7.0.1/24 x",
    );
    for line in [
        "invalid network config:",
        "failed to parse com.docker.network.driver.mtu value: x (not a number)",
        "failed to parse com.docker.network.bridge.enable_icc value: maybe (neither true nor false)",
        "invalid subnet 10.7.0.1/24: it should be 10.7.0.0/24",
    ] {
        assert!(error.lines().any(|found| found.ends_with(line)), "{line}: {error}");
    }
    assert_eq!(agent.ok("network ls -q -f type=custom"), "");
}

#[test]
fn moby_api_021_a_network_has_any_name_that_is_not_blank() {
    let (_net, mut agent) = stage();
    for name in ["test@#$", "my net", "-n", "a/b", "50%", "\u{fc}ber"] {
        let made = agent.cli(["network", "create", "--label", "a=b", "--", name]);
        assert!(made.ok(), "{name}: {made:?}");
    }
    agent.restart();
    for name in ["test@#$", "my net", "-n", "a/b", "50%", "\u{fc}ber"] {
        let shown = agent.cli(["network", "inspect", "-f", "{{.Name}} {{.Labels.a}}", "--", name]);
        assert_eq!(shown.stdout.trim_end(), format!("{name} b"), "{shown:?}");
        let network = format!("--network={name}");
        let id = agent.cli(["run", "-d", "--name", "c1", &network]);
        assert!(id.ok(), "{name}: {id:?}");
        let attached = &agent.inspect("container", "c1")["NetworkSettings"]["Networks"][name];
        assert!(attached["IPAddress"].is_string(), "{name}: {attached}");
        assert!(agent.cli(["network", "disconnect", "--", name, "c1"]).ok(), "{name}");
        assert!(agent.cli(["network", "connect", "--", name, "c1"]).ok(), "{name}");
        agent.ok("rm -f c1");
        let gone = agent.cli(["network", "rm", "--", name]);
        assert!(gone.ok(), "{name}: {gone:?}");
    }
    for name in ["", " ", "a\nb"] {
        let refused = agent.cli(["network", "create", "--", name]);
        assert!(!refused.ok() && refused.stderr.contains("invalid name"), "{name:?}: {refused:?}");
    }
}

#[test]
fn p6_moby_icc_032_a_configuration_is_lent_and_survives_a_restart() {
    let (_net, mut agent) = stage();
    agent.network("cfg", "--config-only --subnet 10.7.0.0/24 --gateway 10.7.0.9 --label team=a -o com.docker.network.driver.mtu=1233");
    agent.network("n1", "--config-from cfg --internal");
    agent.restart();
    let (cfg, n1) = (agent.inspect("network", "cfg"), agent.inspect("network", "n1"));
    assert_eq!((&cfg["ConfigOnly"], &cfg["Driver"]), (&json!(true), &json!("null")));
    assert_eq!(cfg["IPAM"]["Config"], json!([{"Subnet": "10.7.0.0/24", "Gateway": "10.7.0.9"}]));
    assert_eq!((&n1["ConfigFrom"], &n1["Internal"]), (&json!({"Network": "cfg"}), &json!(true)));
    assert_eq!(n1["IPAM"]["Config"], cfg["IPAM"]["Config"]);
    assert_eq!((&n1["Labels"], &n1["Options"]), (&cfg["Labels"], &cfg["Options"]));
    let c1 = agent.container("c1", "n1", "");
    assert!(c1.ns.sh("ip -o link show eth0").contains("mtu 1233 "), "MOBY-ICC-032");
    let error = agent.refused("network rm cfg");
    assert!(error.ends_with("configuration network \"cfg\" is in use"), "{error}");
    let error = agent.refused("network connect cfg c1");
    assert!(error.ends_with("cannot create endpoint on configuration-only network"), "{error}");
    agent.ok("container rm -f c1");
    assert_eq!(agent.ok("network rm n1 cfg"), "n1\ncfg");
}

#[test]
fn s16_s17_p4_moby_lc_007_networks_are_removed_one_by_one() {
    let (_net, agent) = stage();
    for name in ["a", "b", "c"] {
        agent.network(name, "");
    }
    agent.container("c1", "b", "");
    let out = run(&agent, "network rm a b nosuch c");
    assert_eq!((out.code, out.stdout.as_str()), (1, "a\nc\n"), "MOBY-LC-007");
    let error = out.stderr;
    assert!(error.contains("network b has active endpoints (name:\"c1\" id:\""), "{error}");
    assert!(error.contains("network nosuch not found"), "{error}");
    let out = run(&agent, "network rm -f nosuch");
    assert_eq!((out.code, out.stdout.as_str()), (0, ""));
    assert_eq!(run(&agent, "network rm -f b").code, 1);
    agent.ok("container stop c1");
    assert_eq!(agent.ok("network rm -f b"), "b");
    for name in ["bridge", "host", "none"] {
        let error = agent.refused(&format!("network rm {name}"));
        assert!(error.ends_with(&format!("{name} is a pre-defined network and cannot be removed")));
        let error = agent.refused(&format!("network create {name}"));
        assert!(
            error.contains(&format!("operation is not permitted on predefined {name} network"))
        );
    }
}

#[test]
fn p1_pruning_asks_and_keeps_to_its_filters() {
    let (_net, agent) = stage();
    agent.network("a", "--label keep");
    agent.network("b", "");
    agent.network("c", "");
    agent.container("c1", "c", "");
    let question = "WARNING! This will remove all custom networks not used by at least one container.\n\
                    Are you sure you want to continue? [y/N] ";
    let (code, text) = answered(&agent, "network prune", "n\n");
    assert_eq!((code, text), (1, format!("{question}error: network prune has been cancelled\n")));
    let (_, text) =
        answered(&agent, "network prune --filter label!=keep --filter until=24h", "y\n");
    assert_eq!(text, question, "none is a day old");
    let (code, text) = answered(&agent, "network prune --filter label!=keep", "Y\n");
    assert_eq!((code, text), (0, format!("{question}Deleted Networks:\nb\n\n")));
    let error = agent.refused("network prune -f --filter until=yesterday");
    assert!(error.contains("invalid until \"yesterday\""), "{error}");
    assert_eq!(run(&agent, "network prune -f --filter name=a").code, 2);
    assert_eq!(agent.ok("network prune -f"), "Deleted Networks:\na");
    assert_eq!(agent.ok("network prune -f"), "");
    assert_eq!(agent.ok("network ls -q -f type=custom").lines().count(), 1);
}

#[test]
fn s45_s46_s47_s51_p19_what_is_wrong_with_subnets_is_told_at_once() {
    let (_net, agent) = stage();
    let multi = "--subnet=192.168.0.0/16 --subnet=192.170.0.0/16 --gateway=192.168.0.100 --gateway=192.170.0.100 \
                 --ip-range=192.168.1.0/24 --aux-address=my-router=192.168.1.5 --aux-address=my-switch=192.168.1.6 \
                 --aux-address=my-printer=192.170.1.5 --aux-address=my-nas=192.170.1.6 my-multihost-network";
    let error = agent.refused(&format!("network create -d overlay {multi}"));
    assert!(error.contains("This node is not a swarm manager."), "S46: {error}");
    let error = agent.refused(&format!("network create {multi}"));
    assert!(error.ends_with("bridge driver doesn't support multiple subnets"), "S45: {error}");
    let config = json!([
        {"Subnet": "10.0.0.0/8", "IPRange": "2001:db8::/32", "Gateway": "192.168.0.1",
         "AuxiliaryAddresses": {"DefaultGatewayIPv4": "2001:db8::1"}},
        {"Subnet": "2001:db8::1/64"},
    ]);
    let body = json!({"Name": "x", "IPAM": {"Config": config}});
    let answer = agent.api("POST", "/networks/create", Some(&body));
    let lines: Vec<_> = answer.message().lines().collect();
    assert_eq!(answer.status, 400);
    assert_eq!(
        lines,
        [
            "invalid network config:",
            "invalid ip-range 2001:db8::/32: parent subnet is an IPv4 block",
            "invalid gateway 192.168.0.1: parent subnet 10.0.0.0/8 doesn't contain this address",
            "invalid auxiliary address DefaultGatewayIPv4: parent subnet is an IPv4 block",
            "invalid subnet 2001:db8::1/64: it should be 2001:db8::/64",
        ]
    );
}

#[test]
fn s9_s15_s49_s59_moby_ipam_023_moby_api_024_subnets_are_shown_and_kept_to_as_asked_for() {
    let (_net, agent) = stage();
    agent.network("n", "--subnet 172.28.0.0/16 --ip-range 172.28.5.0/24 --gateway 172.28.5.254 --aux-address r=172.28.5.0 --subnet 2001:db8:abcd::/64");
    let ipam = &agent.inspect("network", "n")["IPAM"];
    assert_eq!(ipam["Driver"], "default");
    let config = &ipam["Config"];
    assert_eq!(
        config[0],
        json!({"Subnet": "172.28.0.0/16", "IPRange": "172.28.5.0/24",
        "Gateway": "172.28.5.254", "AuxiliaryAddresses": {"r": "172.28.5.0"}})
    );
    assert_eq!(config[1]["Gateway"], "2001:db8:abcd::1", "without a mask");
    let c1 = agent.container("c1", "n", "");
    assert!(c1.ns.sh("ip -4 -o addr show dev eth0").contains("172.28.5.1/16"));
}
