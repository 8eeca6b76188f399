//! Containers, the daemon and the agent come and go.

use std::thread;

use serde_json::{Value, json};

use super::{IDLE, KEY, Way, at};
use crate::{
    Agent, Dockerd, Topology,
    dockerd::{Exec, IMAGE},
    process,
    topology::{HOST, OUTSIDE},
    traffic::{self, Conversation, TcpServer},
    wait,
};

/// How many start at once.
const CROWD: u16 = 50;

/// Waits until what Docker has done is done here, too, as [`Way::settle`] does.
type Settle = fn(&Agent, &Dockerd, &[&str]);

/// All of it that needs no daemon or agent of its own, on networks `blue` and `green`.
pub(super) fn all(way: &Way<'_>) {
    moby_lc_008_restarts_on_several_networks(way);
    moby_lc_010_an_interface_is_renamed_inside(way);
    fifty_containers_at_once(way);
    moby_lc_021_networks_that_nobody_uses(way);
}

fn moby_lc_008_restarts_on_several_networks(way: &Way<'_>) {
    let docker = way.docker;
    docker.containers([
        ("first", "blue", "--network-alias foo --restart always"),
        ("second", "blue", ""),
    ]);
    for name in ["first", "second"] {
        docker.ok(&format!("network connect green {name}"));
    }
    // It dies, and Docker starts it again.
    let pid = || docker.inspect_container("first")["State"]["Pid"].to_string();
    let before = pid();
    let killed = process::run(docker.inside("kill").args(["-9", &before]), process::LIMIT);
    assert!(killed.ok(), "{}", killed.stderr);
    wait::wait_until("the next process", wait::START, || !["0", &before].contains(&pid().as_str()));
    for name in ["first", "foo"] {
        wait::wait_until(name, wait::START, || docker.pings("second", name));
    }
    // The other one is stopped, and started.
    docker.ok("stop --time 0 second");
    assert!(!docker.pings("first", "second"));
    docker.ok("start second");
    wait::wait_until("second", wait::START, || docker.pings("first", "second"));
    docker.ok("network disconnect blue second");
    wait::wait_until("second, by the other network", wait::START, || {
        docker.pings("first", "second")
    });
    way.remove("first second");
}

fn moby_lc_010_an_interface_is_renamed_inside(way: &Way<'_>) {
    let docker = way.docker;
    let c1 = docker.container("c1", "blue", "");
    docker.ok("network connect green c1");
    way.settle();
    for line in ["set eth1 down", "set eth1 name lan7"] {
        c1.ns.sh(&format!("ip link {line}"));
    }
    docker.ok("network disconnect blue c1");
    docker.ok("network connect blue c1");
    // Its namespace ends with it, and what Docker does not find in it any more.
    drop(c1);
    docker.ok("restart --time 0 c1");
    way.settle();
    let c1 = docker.open("c1");
    assert_eq!(c1.ns.interfaces().len(), 3);
    traffic::answers(&c1.ns, OUTSIDE);
    way.remove("c1");
}

/// Every one has its policy before its first packet, its ports, and nothing is lost.
fn fifty_containers_at_once(way: &Way<'_>) {
    let (docker, net) = (way.docker, way.net);
    way.network("crowd", &format!("-o {KEY}.enable_icc=false --subnet 10.77.8.0/24"));
    let target = way.container("target", "crowd", "");
    let target_server = TcpServer::start(&target.ns, 80);
    let line = format!("/bin/busybox nc -w 1 {} 80; /bin/busybox sleep 100000", target.address());
    let each = |act: &(dyn Fn(u16) + Sync)| {
        thread::scope(|scope| {
            for n in 0..CROWD {
                scope.spawn(move || act(n));
            }
        });
    };
    each(&|n| {
        let body = json!({"Image": IMAGE, "Cmd": ["/bin/busybox", "sh", "-c", line],
            "ExposedPorts": {"80/tcp": {}},
            "HostConfig": {"NetworkMode": "crowd",
                "PortBindings": {"80/tcp": [{"HostPort": (9100 + n).to_string()}]}}});
        let path = format!("/containers/create?name=many{n}");
        let answer = docker.request("POST", &path, Some(&body));
        assert_eq!(answer.status, 201, "{n}: {}", answer.body);
        let answer = docker.request("POST", &format!("/containers/many{n}/start"), None);
        assert_eq!(answer.status, 204, "{n}: {}", answer.body);
    });
    way.settle();
    wait::wait_until("all names", wait::START, || {
        let names = way.names();
        (0..CROWD).all(|n| names.contains(&format!("many{n}")))
    });
    let all: Vec<_> = (0..CROWD).map(|n| docker.open(&format!("many{n}"))).collect();
    let servers: Vec<_> = all.iter().map(|container| TcpServer::start(&container.ns, 80)).collect();
    let _far = TcpServer::start(&net.outside, 80);
    each(&|n| {
        let (this, next) = (&all[usize::from(n)], &all[usize::from((n + 1) % CROWD)]);
        assert_eq!(*traffic::reaches(&net.outside, at(HOST, 9100 + n)).ip(), OUTSIDE, "{n}");
        assert_eq!(*traffic::reaches(&this.ns, at(OUTSIDE, 80)).ip(), HOST, "{n}");
        traffic::unreachable(&this.ns, at(next.address(), 80));
    });
    assert!(servers.iter().all(|server| server.peers().len() == 1), "each port led to its own");
    assert_eq!(target_server.peers(), [], "nobody came before the policy");
    drop((servers, all));
    each(&|n| {
        let answer = docker.request("DELETE", &format!("/containers/many{n}?force=1"), None);
        assert_eq!(answer.status, 204, "{n}: {}", answer.body);
    });
    way.remove("target");
    assert_eq!(way.names(), [""; 0]);
    for n in 0..CROWD {
        traffic::refused(&net.outside, at(HOST, 9100 + n));
    }
    // Of endpoints that come at the same moment dockerd 20.10 counts one twice now and then (a count that is raised,
    // found to be another's meanwhile, read again and raised again), and keeps the network until its next start.
    let removed = docker.cli(["network", "rm", "crowd"]);
    assert!(removed.ok() || removed.stderr.contains("has active endpoints"), "{removed:?}");
}

fn moby_lc_021_networks_that_nobody_uses(way: &Way<'_>) {
    way.network("unused", "--label go=yes");
    way.network("kept", "");
    way.settle();
    let pruned = way.docker.ok("network prune --force --filter label=go=yes");
    assert!(pruned.contains("unused") && !pruned.contains("kept"), "{pruned}");
    wait::wait_until("they are gone", wait::START, || {
        let shown = way.agent.ok("network ls");
        !shown.contains(" unused ") && shown.contains(" kept ")
    });
    way.docker.ok("network rm kept");
}

/// The agent is replaced by another build while containers talk.
pub fn moby_lc_016_a_newer_build_takes_over_and_no_packet_is_lost(
    agent: &mut Agent,
    docker: &Dockerd,
    net: &Topology,
    driver: &'static str,
    settle: Settle,
) {
    Way { agent, docker, net, driver, settle }.network("n1", "--subnet 10.71.0.0/24");
    let wanted = [("c1", "n1", "-p 8080:80"), ("c2", "n1", "")];
    let [c1, _] = Way { agent, docker, net, driver, settle }.containers(wanted);
    let _server = TcpServer::start(&c1.ns, 80);
    let mut talk = Conversation::open(&net.outside, at(HOST, 8080)).expect("a connection");
    let inside = Exec::ping(docker, "c2", c1.address());
    let out = Exec::ping(docker, "c1", OUTSIDE);
    for (version, orderly) in [("0.1.8", true), ("0.1.9", false)] {
        agent.rebuild(version);
        if orderly {
            assert_eq!(agent.stop(), 0);
        } else {
            agent.kill9();
        }
        talk.say().expect("goes on without an agent");
        agent.launch();
        agent.wait_ready();
        let way = Way { agent, docker, net, driver, settle };
        way.settle();
        let server = agent.api("GET", "/_ping", None).server;
        assert!(
            server.contains(&format!("bascule-{version} ")),
            "the newer one is there: {server}"
        );
        talk.say().expect("goes on with the newer agent");
        traffic::reaches(&net.outside, at(HOST, 8080));
        // It serves Docker as the one before did.
        let c3 = way.container("c3", "n1", "-p 8081:80");
        let _third = TcpServer::start(&c3.ns, 80);
        traffic::reaches(&net.outside, at(HOST, 8081));
        assert_eq!(way.ports("c3"), ["80/tcp -> 0.0.0.0:8081"]);
        way.remove("c3");
    }
    for ping in [inside, out] {
        ping.lost_nothing();
    }
}

/// The daemon goes, with its containers, and brings back those that it is to.
pub fn moby_lc_003_moby_lc_005_moby_lc_018_a_daemon_without_live_restore(
    agent: &Agent,
    docker: &mut Dockerd,
    net: &Topology,
    driver: &'static str,
    settle: Settle,
) {
    // The default network is another one after each start, where it is ours.
    let first = if driver.is_empty() { "bridge" } else { "n1" };
    let way = Way { agent, docker, net, driver, settle };
    for network in ["n1", "n2", "n3"] {
        way.network(network, "");
    }
    way.containers([
        ("always", first, "--restart always -p 8080:80"),
        ("once", first, "-p 8081:80"),
    ]);
    docker.ok(&format!("create --name resting --network n1 {IDLE}"));
    for (network, container) in [("n2", "always"), ("n3", "always"), ("n2", "resting")] {
        docker.ok(&format!("network connect {network} {container}"));
    }
    for signal in ["KILL", "TERM"] {
        docker.end(signal);
        docker.launch();
        docker.wait_ready();
        let way = Way { agent, docker, net, driver, settle };
        way.settle();
        // Once: its former endpoint is gone, whether anybody said so or not.
        wait::wait_equal("who runs", wait::START, &vec!["always".to_owned()], || way.names());
        let always = docker.open("always");
        assert_eq!(always.ns.interfaces().len(), 4);
        let _server = TcpServer::start(&always.ns, 80);
        traffic::reaches(&net.outside, at(HOST, 8080));
        traffic::answers(&always.ns, OUTSIDE);
        assert_eq!(way.ports("always"), ["80/tcp -> 0.0.0.0:8080"]);
    }
    docker.ok("start once resting");
    let way = Way { agent, docker, net, driver, settle };
    way.settle();
    assert_eq!(way.ports("once"), ["80/tcp -> 0.0.0.0:8081"]);
    let resting = docker.open("resting");
    assert_eq!(resting.ns.interfaces().len(), 3);
    assert!(docker.pings("always", "resting"));
    way.remove("always once resting");
    docker.ok("network rm n1 n2 n3");
    assert_eq!(way.names(), [""; 0]);
}

impl Way<'_> {
    /// The names of the containers that the agent shows, running or not, in order.
    pub fn names(&self) -> Vec<String> {
        let found = self.agent.api("GET", "/containers/json?all=1", None).body;
        let name = |c: &Value| {
            c["Names"][0].as_str().unwrap_or_default().trim_start_matches('/').to_owned()
        };
        let mut names: Vec<_> = found.as_array().into_iter().flatten().map(name).collect();
        names.sort();
        names
    }
}
