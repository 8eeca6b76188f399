//! Metrics over real maps: what is counted appears under its names, and vanishes with what it is about.

use std::{io::Write as _, process::Stdio, sync::Arc};

use aya::maps::{Map, MapData, PerCpuArray, PerCpuHashMap, PerCpuValues};
use bascule::{
    kernel::bpf::{Collected, Pins},
    telemetry::{
        EndpointName, Metrics, Names, NetworkName, ProgramName, RuleName, SharedNames, bind, serve,
    },
};
use bascule_common::abi::{
    Count, Direction, DropKey, DropReason, EndpointCounters, RuleCounters, Stat, names::map,
};
use bascule_tests::metrics::Metrics as Scrape;

use crate::Plane;

/// Writes the same share for every CPU of one entry, as the programs would have counted it.
fn count<V: aya::Pod>(pins: &Pins, name: &str, index: u32, share: V) {
    let map = Map::PerCpuArray(MapData::from_pin(pins.map(name)).expect("pin"));
    let mut counters = PerCpuArray::<_, V>::try_from(map).expect("counters");
    let cpus = aya::util::nr_cpus().expect("CPUs");
    let shares = PerCpuValues::try_from(vec![share; cpus]).expect("shares");
    counters.set(index, shares, 0).expect("set");
}

fn names() -> Names {
    let endpoint = EndpointName {
        endpoint: "0123456789ab".into(),
        container: "web".into(),
        container_id: "feedfacecafe".into(),
        network: "n1".into(),
    };
    let rule = RuleName {
        container: "web".into(),
        network: "n1".into(),
        host_ip: "0.0.0.0".into(),
        host_port: "8000-8999".into(),
        proto: "tcp".into(),
    };
    let network = NetworkName {
        network: "n1".into(),
        id: "ba9876543210".into(),
        subnet: "172.20.0.0/24".into(),
        bridge: "br-ba9876543210".into(),
        ips_in_use: 3,
        ips_available: 251,
    };
    let program = ProgramName {
        iface: "bsc00000001".into(),
        hook: "ingress".into(),
        mode: "tcx".into(),
        program: "from_container".into(),
    };
    Names {
        endpoints: [(3, endpoint)].into(),
        rules: [(9, rule)].into(),
        networks: [(1, network)].into(),
        denials: [(2, "198.51.100.0/24".into())].into(),
        programs: vec![program],
        ..Names::default()
    }
}

fn counted() -> (Arc<Metrics>, SharedNames, Pins, bascule_tests::places::Places) {
    let Plane { places, pins, loaded, .. } = Plane::new();
    let twice = |packets, bytes| Count { packets, bytes };
    let traffic = EndpointCounters { received: twice(1, 100), sent: twice(2, 300) };
    count(&pins, map::ENDPOINT_STATS, 3, traffic);
    let port = RuleCounters { received: twice(5, 500), sent: twice(6, 600), connections: 4 };
    count(&pins, map::RULE_STATS, 9, port);
    count(&pins, map::DENY_STATS, 2, twice(11, 1_100));
    count(&pins, map::DENY_STATS, 0, twice(12, 1_200));
    count(&pins, map::STATS, Stat::ToHost as u32, 7_u64);
    count(&pins, map::STATS, Stat::PortsExhausted as u32, 8_u64);
    let drops = Map::PerCpuHashMap(MapData::from_pin(pins.map(map::DROPS)).expect("pin"));
    let mut drops = PerCpuHashMap::<_, DropKey, Count>::try_from(drops).expect("drops");
    for endpoint in [0, 3, 4] {
        let key = DropKey {
            endpoint,
            reason: DropReason::PolicyIcc as u8,
            direction: Direction::Out as u8,
            pad: 0,
        };
        let cpus = aya::util::nr_cpus().expect("CPUs");
        let shares = PerCpuValues::try_from(vec![twice(10, 1_000); cpus]).expect("shares");
        drops.insert(key, shares, 0).expect("insert");
    }
    let shared = SharedNames::default();
    let metrics = Metrics::new(Arc::new(loaded.tables), shared.clone(), true).expect("metrics");
    (Arc::new(metrics), shared, pins, places)
}

#[test]
fn what_is_counted_appears_under_its_names_and_vanishes_with_them() {
    let cpus = aya::util::nr_cpus().expect("CPUs") as f64;
    let (metrics, shared, _, _places) = counted();
    let scrape = || Scrape::parse(&metrics.render().expect("render"));
    assert_eq!(scrape().select("bascule_endpoint_packets_total", &[]).count(), 0, "unnamed");

    shared.publish(names);
    let seen = scrape();
    let web = [("container", "web"), ("network", "n1"), ("endpoint", "0123456789ab")];
    assert_eq!(seen.traffic("web", "in"), (cpus as u64, 100 * cpus as u64));
    assert_eq!(seen.traffic("web", "out"), (2 * cpus as u64, 300 * cpus as u64));
    assert_eq!(seen.select("bascule_endpoint_bytes_total", &web).count(), 2);
    assert_eq!(seen.drops("web", "policy_icc"), 10 * cpus as u64);
    assert_eq!(seen.sum("bascule_host_drops_total", &[("direction", "out")]), 10.0 * cpus);
    let port = [("host_port", "8000-8999"), ("host_ip", "0.0.0.0"), ("proto", "tcp")];
    assert_eq!(seen.sum("bascule_port_connections_total", &port), 4.0 * cpus);
    let towards = [("host_port", "8000-8999"), ("direction", "in")];
    assert_eq!(seen.sum("bascule_port_bytes_total", &towards), 500.0 * cpus);
    assert_eq!(seen.sum("bascule_kernel_handovers_total", &[("reason", "host")]), 7.0 * cpus);
    assert_eq!(seen.sum("bascule_nat_port_exhausted_total", &[]), 8.0 * cpus);
    assert_eq!(seen.sum("bascule_network_ips_available", &[("network", "n1")]), 251.0);
    assert_eq!(seen.sum("bascule_program_info", &[("mode", "tcx")]), 1.0);
    // The names that others give the same.
    let podman = [("name", "web"), ("id", "feedfacecafe")];
    assert_eq!(seen.sum("podman_container_net_input_total", &podman), 100.0 * cpus);
    assert_eq!(seen.sum("podman_container_net_output_packets_total", &podman), 2.0 * cpus);
    assert_eq!(seen.sum("podman_container_net_output_dropped_total", &podman), 10.0 * cpus);
    let prefix = [("prefix", "198.51.100.0/24")];
    assert_eq!(seen.sum("bascule_deny_packets_total", &prefix), 11.0 * cpus);
    assert_eq!(seen.sum("bascule_deny_bytes_total", &prefix), 1_100.0 * cpus);
    let denied = [("direction", "in"), ("reason", "deny_cidr")];
    assert_eq!(
        seen.sum("bascule_host_drops_total", &denied),
        12.0 * cpus,
        "what XDP dropped in all"
    );

    shared.publish(Names::default);
    let seen = scrape();
    assert!(!seen.text.contains("\"web\"") && !seen.text.contains("\"n1\""), "{}", seen.text);
}

#[test]
fn promtool_finds_nothing_to_say() {
    let (metrics, shared, _, _places) = counted();
    shared.publish(names);
    metrics.collected(Collected { seen: 10, removed: 4 }, std::time::Duration::from_millis(3));
    metrics.passed(7, std::time::Duration::from_millis(2));
    metrics.attach_seconds.observe(0.02);
    metrics.api_request_seconds.with_label_values(&["/networks/{id}", "200"]).observe(0.001);
    metrics.repaired("configure");
    let text = metrics.render().expect("render");
    for line in [
        "bascule_conntrack_gc_runs_total 1",
        "bascule_conntrack_gc_deleted_total 4",
        "bascule_reconcile_actions_total 7",
        "bascule_conntrack_entries 0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is missing in {text}");
    }
    let mut promtool = std::process::Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool (Debian's package prometheus)");
    promtool.stdin.take().expect("stdin").write_all(text.as_bytes()).expect("write");
    let out = promtool.wait_with_output().expect("wait");
    let said = String::from_utf8_lossy(&out.stdout) + String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success() && said.trim().is_empty(), "{said}\n{text}");
}

#[test]
fn metrics_and_health_are_served() {
    let (metrics, shared, _, _places) = counted();
    shared.publish(names);
    let ns = bascule_tests::Netns::new("metrics");
    let runtime = ns.run(|| {
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime")
    });
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let (told, address) = std::sync::mpsc::channel();
    let shown = Arc::clone(&metrics);
    let server = ns.spawn(move || {
        runtime.block_on(async {
            let listener = bind("127.0.0.1:0".parse().expect("an address")).await.expect("bind");
            let address = listener.local_addr().expect("address");
            told.send(address).expect("tell");
            let taken = bind(address).await.expect_err("bound twice").to_string();
            assert!(taken.contains("--metrics-listen"), "{taken}");
            serve(listener, shown, async { drop(stopped.await) }).await.expect("serve");
        });
    });
    let address = address.recv().expect("an address");
    let scrape = Scrape::scrape(&ns, address).expect("scrape");
    assert!(scrape.traffic("web", "in").0 > 0, "{}", scrape.text);
    let health = || {
        ns.try_sh(&format!("curl -s -o /dev/null -w %{{http_code}} http://{address}/healthz"))
            .stdout
    };
    assert_eq!(health(), "503");
    metrics.set_health(Ok(()));
    assert_eq!(health(), "200");
    stop.send(()).expect("stop");
    server.join().expect("the server ends");
}

/// What a scrape costs with many of everything: `cargo xtask bench metrics` runs it.
#[test]
#[ignore = "a measurement"]
fn bench_scrape() {
    use nix::time::{ClockId, clock_gettime};
    let cpu = || {
        let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("a clock");
        std::time::Duration::from(time).as_secs_f64() * 1_000.0
    };
    let (metrics, shared, _, _places) = counted();
    let one = names();
    say(&format!("{:>10} {:>10} {:>10} {:>12}", "endpoints", "ports", "ms of CPU", "bytes"));
    for (endpoints, rules) in [(0, 0), (100, 100), (1_000, 0), (1_000, 1_000)] {
        let mut many = Names::default();
        for index in 1..=endpoints {
            let mut name = one.endpoints[&3].clone();
            name.container = format!("container-{index}");
            many.endpoints.insert(index, name);
            for hook in ["ingress", "egress"] {
                let mut program = one.programs[0].clone();
                (program.iface, program.hook) = (format!("bsc{index:08x}"), hook.to_owned());
                many.programs.push(program);
            }
        }
        for index in 1..=rules {
            many.rules.insert(index, one.rules[&9].clone());
        }
        shared.publish(|| many);
        let mut rounds: Vec<f64> = (0..15)
            .map(|_| {
                let begin = cpu();
                metrics.render().expect("render");
                cpu() - begin
            })
            .collect();
        rounds.sort_by(f64::total_cmp);
        let bytes = metrics.render().expect("render").len();
        say(&format!("{endpoints:>10} {rules:>10} {:>10.2} {bytes:>12}", rounds[7]));
    }
}

#[expect(clippy::print_stdout, reason = "a measurement is there to be read")]
fn say(line: &str) {
    println!("{line}");
}
