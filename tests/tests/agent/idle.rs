//! An agent with nothing to do: it sleeps, and hears of what somebody does.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use bascule_tests::{Agent, Topology, wait};

/// How long it is watched, and how often it may wake meanwhile: one that looks twice a second does more.
const WINDOW: Duration = Duration::from_secs(5);
const WAKES: u64 = 40;

/// How often threads of a process have gone to sleep.
fn sleeps(pid: u32) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("tasks").flatten();
    let texts = tasks.filter_map(|task| fs::read_to_string(task.path().join("status")).ok());
    let counts = texts.filter_map(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        line.and_then(|count| count.trim().parse::<u64>().ok())
    });
    counts.sum()
}

#[test]
fn issue_7_an_agent_with_nothing_to_do_sleeps() {
    let net = Topology::new();
    let agent = Agent::start(&net.host);
    agent.network("n1", "");
    for number in 0..10 {
        agent.ok(&format!("run -d --name c{number} --network n1 -p {}:80", 8000 + number));
    }
    // What it has begun comes to an end first: announcements, the kernel's own notifications.
    let begin = Instant::now();
    loop {
        let before = sleeps(agent.pid());
        thread::sleep(WINDOW);
        // A thread that ends takes its count along.
        let woken = sleeps(agent.pid()).saturating_sub(before);
        if woken <= WAKES {
            break;
        }
        assert!(begin.elapsed() < wait::START, "it woke {woken} times in {WINDOW:?}");
    }
}

#[test]
fn what_somebody_changes_inside_a_container_is_put_back_at_once() {
    let net = Topology::new();
    let agent = Agent::start(&net.host);
    agent.network("n1", "--subnet 10.98.0.0/24");
    let c1 = agent.container("c1", "n1", "");
    let address = || c1.ns.sh("ip -4 -o addr show eth0");
    let route = || c1.ns.sh("ip -4 route show default");
    let link = || c1.ns.sh("ip -o link show eth0");
    assert!(address().contains("10.98.0.2/24") && route().contains("10.98.0.1"));
    c1.ns.sh("ip addr flush dev eth0");
    wait::wait_until("the address is back", wait::SOON, || address().contains("10.98.0.2/24"));
    wait::wait_until("the route is back", wait::SOON, || route().contains("10.98.0.1"));
    c1.ns.sh("ip link set eth0 mtu 1300");
    wait::wait_until("the MTU is back", wait::SOON, || link().contains("mtu 1500"));
    c1.ns.sh("ip route replace default via 10.98.0.77");
    wait::wait_until("the gateway is back", wait::SOON, || route().contains("via 10.98.0.1 "));
    c1.ns.sh("ip link set lo down");
    wait::wait_until("loopback is up", wait::SOON, || c1.ns.sh("ip link show lo").contains(",UP"));
    // The container's own affair.
    c1.ns.sh("ip link add own type bridge");
    c1.ns.sh("ip link set own up");
    c1.ns.sh("ip addr add 10.99.0.1/32 dev own");
    c1.ns.sh("ip link set eth0 down");
    wait::wait_until("it is up", wait::SOON, || link().contains("state UP"));
    assert!(c1.ns.sh("ip -4 -o addr show own").contains("10.99.0.1"));
}
