//! More containers on one network than a bridge has ports. A layer of its own: while the kernel takes so many
//! interfaces down, nobody else on the machine gets at any.

use std::{net::SocketAddrV4, thread, time::Duration};

use bascule_tests::{
    Agent, Container, Topology, api, process,
    topology::HOST,
    traffic::{self, Conversation, TcpServer},
};
use serde_json::{Value, json};

/// Containers of the network.
const COUNT: usize = 2_000;
/// Requests that wait at one time.
const CLIENTS: usize = 8;
/// What the kernel needs to take everything down; a busy machine's.
const CLEANUP: Duration = Duration::from_secs(240);

fn post(agent: &Agent, path: &str, body: Option<&Value>) {
    let answer = api::request(&agent.places.socket(), "POST", path, body)
        .unwrap_or_else(|error| panic!("{path}: {error}"));
    assert!(answer.status < 300, "{path}: {answer:?}");
}

/// Makes and starts containers, as several clients at a time would; the last one publishes a port.
fn start_all(agent: &Agent) {
    let client = |first: usize| {
        for index in (first..COUNT).step_by(CLIENTS) {
            let name = format!("c{index}");
            let mut body = json!({ "Name": name, "Networks": [{ "Network": "n1" }] });
            if index + 1 == COUNT {
                body["Publish"] = json!(["8080:80"]);
            }
            post(agent, "/bascule/v1/containers", Some(&body));
            post(agent, &format!("/bascule/v1/containers/{name}/start"), None);
        }
    };
    thread::scope(|scope| {
        for first in 0..CLIENTS {
            scope.spawn(move || client(first));
        }
    });
}

fn open(agent: &Agent, name: &str) -> Container {
    let id = agent.inspect("container", name)["Id"].as_str().expect("an id").to_owned();
    Container::open(agent, name, &id)
}

fn endpoints(agent: &Agent) -> (u64, usize) {
    let status = agent.api("GET", "/bascule/v1/status", None).body;
    assert_eq!(status["Failures"], json!([]), "{status}");
    let metrics = agent.metrics();
    let of_network = [("network", "n1")];
    // In and out.
    let series = metrics.select("bascule_endpoint_packets_total", &of_network).count();
    (status["Endpoints"].as_u64().expect("a number"), series / 2)
}

#[test]
fn n13_d10_two_thousand_containers_share_a_network() {
    let net = Topology::new();
    let mut agent = Agent::start(&net.host);
    let at = |ip, port| SocketAddrV4::new(ip, port);
    agent.network("n1", "--subnet 172.30.0.0/16");
    start_all(&agent);
    assert_eq!(endpoints(&agent), (COUNT as u64, COUNT));
    let first = open(&agent, "c0");
    let middle = open(&agent, &format!("c{}", COUNT / 2));
    let last = open(&agent, &format!("c{}", COUNT - 1));
    let _server = TcpServer::start(&last.ns, 80);
    let mut open = [
        Conversation::open(&first.ns, at(last.address(), 80)).expect("from a neighbour"),
        Conversation::open(&net.host, at(last.address(), 80)).expect("from the host"),
        Conversation::open(&net.outside, at(HOST, 8080)).expect("from outside"),
    ];
    agent.restart();
    assert_eq!(endpoints(&agent), (COUNT as u64, COUNT), "after a restart");
    open.iter_mut().for_each(|c| c.say().expect("it goes on"));
    traffic::answers(&middle.ns, first.address());
    traffic::reaches(&net.outside, at(HOST, 8080));
    // One that goes is gone, and the others stay.
    let gone = middle.address();
    agent.ok(&format!("container rm -f c{}", COUNT / 2));
    traffic::does_not_answer(&first.ns, gone);
    open.iter_mut().for_each(|c| c.say().expect("it goes on"));
    agent.stop();
    let cleanup = process::run(agent.bascule().args(["agent", "cleanup"]), CLEANUP);
    assert!(cleanup.ok(), "{}", cleanup.stderr);
    let left = net.host.interfaces();
    assert!(!left.iter().any(|name| name.starts_with("bsc")), "{} are left", left.len());
}
