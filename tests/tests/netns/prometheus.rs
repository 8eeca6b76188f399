//! A real Prometheus scrapes the agent, loads the alerts that we ship, and understands the dashboard's questions.

use std::{collections::BTreeSet, fs, path::PathBuf, process::Stdio};

use bascule_tests::{
    Agent, Topology,
    agent::Settings,
    process::Killed,
    topology::{HOST, OUTSIDE},
    traffic::{self, TcpServer},
    wait,
};
use serde_json::Value;

use crate::{Stage, at};

/// Where the test's Prometheus answers, in the host's namespace.
const ADDRESS: &str = "127.0.0.1:9090";

fn dist(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../dist").join(path)
}

fn prometheus(stage: &Stage) -> Killed {
    let root = stage.agent.places.root();
    let rules = fs::canonicalize(dist("prometheus/bascule.rules.yml")).expect("the rules");
    let config = format!(
        "global: {{scrape_interval: 500ms, evaluation_interval: 500ms}}\n\
         rule_files: ['{}']\n\
         scrape_configs:\n  - job_name: bascule\n    static_configs: [{{targets: ['{}']}}]\n",
        rules.display(),
        bascule_tests::agent::METRICS
    );
    fs::write(root.join("prometheus.yml"), config).expect("a configuration");
    let log = fs::File::create(root.join("prometheus.log")).expect("a log");
    let mut command = stage.net.host.command("prometheus");
    command.arg(format!("--config.file={}", root.join("prometheus.yml").display()));
    command.arg(format!("--storage.tsdb.path={}", root.join("prometheus").display()));
    command.arg(format!("--web.listen-address={ADDRESS}"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    Killed(command.spawn().expect("prometheus (Debian's package `prometheus`)"))
}

fn ask(stage: &Stage, path: &str, query: Option<&str>) -> Value {
    let mut command = stage.net.host.command("curl");
    command.args(["-s", "--max-time", "10", "-G", &format!("http://{ADDRESS}/api/v1/{path}")]);
    if let Some(query) = query {
        command.args(["--data-urlencode", &format!("query={query}")]);
    }
    let out = command.output().expect("curl");
    serde_json::from_slice(&out.stdout).unwrap_or_default()
}

/// The questions of the dashboard, with its variables filled in as Grafana does.
fn questions() -> Vec<String> {
    let text = fs::read_to_string(dist("grafana/bascule.json")).expect("the dashboard");
    let board: Value = serde_json::from_str(&text).expect("the dashboard is JSON");
    let panels = board["panels"].as_array().expect("panels");
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    let questions: Vec<_> = targets
        .map(|target| target["expr"].as_str().expect("a question"))
        .map(|text| text.replace("$__rate_interval", "1m"))
        .map(|text| {
            ["job", "instance", "network", "container"]
                .iter()
                .fold(text, |text, name| text.replace(&format!("${name}"), ".*"))
        })
        .collect();
    assert!(questions.len() > 25, "{questions:?}");
    questions
}

/// Names of ours in a text.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let ours = words.filter(|word| word.starts_with("bascule_"));
    ours.map(|word| word.trim_end_matches("_bucket").to_owned()).collect()
}

#[test]
fn p99_prometheus_scrapes_the_agent_and_the_shipped_alerts_and_dashboard_fit() {
    let (stage, c1) = Stage::with_one("-p 8080:80");
    let _server = TcpServer::start(&c1.ns, 80);
    traffic::reaches(&stage.net.outside, at(HOST, 8080));
    traffic::answers(&c1.ns, OUTSIDE);
    let _prometheus = prometheus(&stage);
    wait::wait_until("the agent is scraped", wait::START, || {
        let found = ask(&stage, "query", Some("up{job=\"bascule\"}"));
        found["data"]["result"][0]["value"][1] == "1"
    });
    wait::wait_until("its numbers are there", wait::START, || {
        let found = ask(&stage, "query", Some("bascule_port_connections_total"));
        found["data"]["result"][0]["value"][1] == "1"
    });

    wait::wait_until("the alerts are judged", wait::START, || {
        let rules = ask(&stage, "rules", None);
        let rules = rules["data"]["groups"][0]["rules"].as_array().cloned().unwrap_or_default();
        rules.len() >= 12 && rules.iter().all(|rule| rule["health"] == "ok")
    });
    let firing = ask(&stage, "query", Some("ALERTS{alertstate=\"firing\"}"));
    assert_eq!(firing["data"]["result"], serde_json::json!([]), "nothing is wrong here");

    let text = stage.agent.metrics().text;
    let rules = fs::read_to_string(dist("prometheus/bascule.rules.yml")).expect("the rules");
    for question in questions().iter().chain([&rules]) {
        for name in metrics_in(question) {
            assert!(
                text.contains(&format!("# TYPE {name} ")) || is_rare(&name),
                "{name}: {question}"
            );
        }
    }
    for question in questions() {
        let answer = ask(&stage, "query", Some(&question));
        assert_eq!(answer["status"], "success", "{question}: {answer}");
    }
}

#[test]
fn p99_every_shipped_alert_is_tried_and_says_what_it_should() {
    let promtool = |args: &[&str]| {
        let mut command = std::process::Command::new("promtool");
        let out = command.args(args).current_dir(dist("prometheus")).output();
        let out = out.expect("promtool (Debian's package `prometheus`)");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stdout));
    };
    promtool(&["check", "rules", "bascule.rules.yml"]);
    promtool(&["test", "rules", "bascule.rules.test.yml"]);
    let read = |name: &str| fs::read_to_string(dist("prometheus").join(name)).expect("rules");
    let (rules, tests) = (read("bascule.rules.yml"), read("bascule.rules.test.yml"));
    let alerts = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
    for alert in alerts {
        let fires = tests.split("alertname: ").skip(1).any(|test| {
            test.starts_with(alert) && test[alert.len()..].trim_start().starts_with("exp_alerts:\n")
        });
        assert!(fires, "no test has {alert} fire");
    }
}

/// Families that a scrape has only once there is something to tell.
fn is_rare(name: &str) -> bool {
    let rare = [
        "bascule_reconcile_repairs_total",
        "bascule_deny_packets_total",
        "bascule_proxy_connections",
        "bascule_proxy_opened_total",
        "bascule_endpoint_drops_total",
        "bascule_host_drops_total",
        "bascule_nat_ports_in_use",
        "bascule_api_request_seconds",
    ];
    rare.contains(&name)
}

/// The contract of `features.md` 6.1, as far as what it is about is there: what has no name servers, peers and rules of
/// its own has no metrics of theirs.
#[test]
fn d8_every_metric_of_the_contract_is_there_with_help() {
    let (stage, c1) = Stage::with_one("-p 8080:80");
    let _server = TcpServer::start(&c1.ns, 80);
    traffic::reaches(&stage.net.outside, at(HOST, 8080));
    traffic::reaches(&c1.ns, at(c1.address(), 80));
    stage.agent.network("n2", "--subnet 10.88.0.0/24");
    traffic::unreachable(&c1.ns, at(std::net::Ipv4Addr::new(10, 88, 0, 9), 80));
    wait::wait_until("the drop is counted", wait::SOON, || {
        stage.agent.metrics().drops("c1", "policy_isolation") > 0
    });
    traffic::answers(&c1.ns, OUTSIDE);
    wait::wait_until("masquerade is counted", wait::SOON, || {
        stage.agent.metrics().sum("bascule_nat_connections", &[]) > 0.0
    });
    let scrape = stage.agent.metrics();
    for name in [
        "bascule_endpoint_bytes_total",
        "bascule_endpoint_packets_total",
        "bascule_endpoint_drops_total",
        "bascule_endpoint_drop_bytes_total",
        "bascule_port_bytes_total",
        "bascule_port_packets_total",
        "bascule_port_connections_total",
        "bascule_port_active_connections",
        "bascule_conntrack_entries",
        "bascule_conntrack_capacity",
        "bascule_conntrack_connections",
        "bascule_conntrack_gc_runs_total",
        "bascule_conntrack_gc_deleted_total",
        "bascule_conntrack_gc_seconds",
        "bascule_conntrack_opened_total",
        "bascule_conntrack_early_drops_total",
        "bascule_nat_port_exhausted_total",
        "bascule_nat_connections",
        "bascule_nat_ports_in_use",
        "bascule_nat_ports_capacity",
        "bascule_map_pressure_ratio",
        "bascule_program_info",
        "bascule_network_info",
        "bascule_policy_verdicts_total",
        "bascule_network_ips_in_use",
        "bascule_network_ips_available",
        "bascule_api_request_seconds",
        "bascule_attach_seconds",
        "bascule_events_lost_total",
        "bascule_reconcile_seconds",
        "bascule_reconcile_passes_total",
        "bascule_build_info",
        "bascule_start_time_seconds",
        "bascule_healthy",
    ] {
        let help = format!("# HELP {name} ");
        assert!(scrape.text.contains(&help), "{name} is missing:\n{}", scrape.text);
    }
    for map in ["FLOWS4", "NEIGHBOURS4", "PORTS", "RULES", "NETWORKS", "GENERATIONS", "DROPS"] {
        let pressure = scrape.sum("bascule_map_pressure_ratio", &[("map", map)]);
        assert!(pressure > 0.0 && pressure < 0.1, "{map}: {pressure}");
    }
    let port = [("host_port", "8080"), ("proto", "tcp"), ("container", "c1")];
    assert_eq!(scrape.select("bascule_port_active_connections", &port).count(), 1);
    let own = HOST.to_string();
    let masqueraded = [("address", own.as_str()), ("proto", "icmp")];
    assert!(scrape.sum("bascule_nat_ports_in_use", &masqueraded) >= 1.0, "{}", scrape.text);

    // A series goes with what it is about.
    stage.agent.ok("rm -f c1");
    wait::wait_until("no word of c1", wait::SOON, || {
        !stage.agent.metrics().text.contains("container=\"c1\"")
    });
}

#[test]
fn p91_p92_what_podmans_exporter_and_dockers_daemon_tell_is_told_by_their_names() {
    let net = Topology::new();
    let settings = Settings::default().arg(&["--metrics-compat"]);
    let agent = Agent::start_with(&net.host, settings);
    agent.network("n1", "");
    agent.network("n2", "--subnet 10.88.0.0/24");
    let (c1, c2) = (agent.container("c1", "n1", ""), agent.container("c2", "n1", ""));
    agent.ok("network connect n2 c2");
    agent.ok("network disconnect n2 c2");
    let _server = TcpServer::start(&c2.ns, 80);
    traffic::reaches(&c1.ns, at(c2.address(), 80));
    traffic::unreachable(&c1.ns, at(std::net::Ipv4Addr::new(10, 88, 0, 9), 80));
    wait::wait_until("the drop is counted", wait::SOON, || {
        agent.metrics().sum("podman_container_net_output_dropped_total", &[("name", "c1")]) >= 1.0
    });
    let scrape = agent.metrics();
    let own = [("network", "n1"), ("container", "c1")];
    for (podman, direction, ours) in [
        ("input_total", "in", "bytes"),
        ("input_packets_total", "in", "packets"),
        ("output_total", "out", "bytes"),
        ("output_packets_total", "out", "packets"),
    ] {
        let theirs = scrape.sum(&format!("podman_container_net_{podman}"), &[("name", "c1")]);
        let labels = [&own[..], &[("direction", direction)]].concat();
        let counted = scrape.sum(&format!("bascule_endpoint_{ours}_total"), &labels);
        assert!(theirs > 0.0 && theirs == counted, "{podman}: {theirs}, ours {counted}");
    }
    for action in ["allocate", "connect", "disconnect"] {
        let done = scrape.sum("engine_daemon_network_actions_seconds_count", &[("action", action)]);
        assert!(done >= 1.0, "{action}: {}", scrape.text);
    }
    // Nobody who did not ask for them has them.
    let plain = Stage::with_one("").0.agent.metrics().text;
    assert!(!plain.contains("podman_") && !plain.contains("engine_daemon_"), "{plain}");
}

#[test]
fn d8_counters_never_go_back_over_restarts() {
    let (mut stage, c1) = Stage::with_one("-p 8080:80");
    let _server = TcpServer::start(&c1.ns, 80);
    traffic::reaches(&stage.net.outside, at(HOST, 8080));
    // Of the agent's own doing, what is timed begins anew, as Prometheus expects of processes.
    let counted = |stage: &Stage| {
        let scrape = stage.agent.metrics();
        let own = ["_seconds_bucket", "_seconds_sum", "_seconds_count"];
        let total = scrape.samples.iter().filter(|sample| {
            sample.name.ends_with("_total") && !own.iter().any(|end| sample.name.ends_with(end))
        });
        total.map(|s| ((s.name.clone(), s.labels.clone()), s.value)).collect::<Vec<_>>()
    };
    c1.ns.sh("ip link set eth0 mtu 1300");
    wait::wait_until("it is put right, and counted", wait::SOON, || {
        stage.agent.metrics().sum("bascule_reconcile_repairs_total", &[]) > 0.0
    });
    let before = counted(&stage);
    assert!(
        before
            .iter()
            .any(|((name, _), value)| { name == "bascule_reconcile_passes_total" && *value > 0.0 })
    );
    stage.agent.restart();
    wait::wait_until("every counter is there again", wait::SOON, || {
        let after = counted(&stage);
        before.iter().all(|(key, value)| after.iter().any(|(k, v)| k == key && v >= value))
    });
}

#[test]
fn d8_verdicts_of_policy_outlive_endpoints_and_agents() {
    let (mut stage, c1) = Stage::with_one("");
    stage.agent.network("n2", "--subnet 10.88.0.0/24");
    let verdicts = |stage: &Stage, verdict, rule| {
        let labels = [("verdict", verdict), ("rule", rule)];
        stage.agent.metrics().sum("bascule_policy_verdicts_total", &labels)
    };
    assert!(verdicts(&stage, "deny", "isolation") < 0.5);
    traffic::answers(&c1.ns, OUTSIDE);
    traffic::unreachable(&c1.ns, at(std::net::Ipv4Addr::new(10, 88, 0, 9), 80));
    wait::wait_until("the drop is counted", wait::SOON, || {
        stage.agent.metrics().drops("c1", "policy_isolation") > 0
    });
    let (allowed, denied) =
        (verdicts(&stage, "allow", "default"), verdicts(&stage, "deny", "isolation"));
    assert!(allowed > 0.0 && denied > 0.0, "{allowed} {denied}");
    // Its place in the tables is another's, whose counters begin at zero.
    stage.agent.ok("rm -f c1");
    stage.agent.container("c2", "n1", "");
    assert_eq!(stage.agent.metrics().drops("c2", "policy_isolation"), 0);
    assert!(verdicts(&stage, "deny", "isolation") >= denied);
    stage.agent.restart();
    assert!(verdicts(&stage, "deny", "isolation") >= denied);
    assert!(verdicts(&stage, "allow", "default") >= allowed);
}
