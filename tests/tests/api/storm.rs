//! Many at once, and half of what a client can do: who asks is answered, once, and nothing is made twice.

use std::{
    io::{Read as _, Write as _},
    net::Shutdown,
    os::unix::net::UnixStream,
    sync::Barrier,
    thread,
    time::Duration,
};

use bascule_tests::{Agent, api};
use serde_json::{Value, json};

use crate::stage;

/// Clients that ask for the same at once.
const CLIENTS: usize = 100;

/// Sends the same request from all clients at once, and returns the status that each of them sees; 0 where there is none.
fn at_once(agent: &Agent, method: &str, path: &str, body: Option<&Value>) -> Vec<u16> {
    let (socket, barrier) = (agent.places.socket(), Barrier::new(CLIENTS));
    let client = || {
        barrier.wait();
        api::request(&socket, method, path, body).map_or(0, |answer| answer.status)
    };
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
        clients.into_iter().map(|client| client.join().expect("a client")).collect()
    })
}

fn count(statuses: &[u16], status: u16) -> usize {
    statuses.iter().filter(|seen| **seen == status).count()
}

/// Names of the networks that were made.
fn custom(agent: &Agent) -> Vec<String> {
    let listed = agent.ok("network ls --filter type=custom --format {{.Name}}");
    listed.lines().map(str::to_owned).collect()
}

#[test]
fn n20_of_a_hundred_who_ask_for_the_same_name_one_gets_it() {
    let (_net, agent) = stage();
    let before = agent.host.interfaces();
    let body = json!({"Name": "n1", "IPAM": {"Config": [{"Subnet": "10.20.0.0/24"}]}});
    let seen = at_once(&agent, "POST", "/networks/create", Some(&body));
    assert_eq!((count(&seen, 201), count(&seen, 409)), (1, CLIENTS - 1), "{seen:?}");
    assert_eq!(custom(&agent), ["n1"]);
    let body = json!({"Name": "c1", "Networks": [{"Network": "bridge"}]});
    let seen = at_once(&agent, "POST", "/bascule/v1/containers", Some(&body));
    assert_eq!((count(&seen, 201), count(&seen, 409)), (1, CLIENTS - 1), "{seen:?}");
    let seen = at_once(&agent, "POST", "/bascule/v1/containers/c1/start", None);
    assert_eq!(count(&seen, 200), CLIENTS, "starting what runs is no error: {seen:?}");
    let ends = agent.host.interfaces().iter().filter(|n| n.starts_with("bsc")).count();
    assert_eq!(ends, 1);
    let body = json!({"Container": "c1"});
    let seen = at_once(&agent, "POST", "/networks/n1/connect", Some(&body));
    assert_eq!((count(&seen, 200), count(&seen, 403)), (1, CLIENTS - 1), "{seen:?}");
    let seen = at_once(&agent, "POST", "/networks/n1/disconnect", Some(&body));
    assert_eq!((count(&seen, 200), count(&seen, 500)), (1, CLIENTS - 1), "{seen:?}");
    let seen = at_once(&agent, "DELETE", "/networks/n1", None);
    assert_eq!((count(&seen, 204), count(&seen, 404)), (1, CLIENTS - 1), "{seen:?}");
    for bad in ["x", "-1", "1.5"] {
        let path = format!("/bascule/v1/containers/c1/stop?t={bad}");
        assert_eq!(agent.api("POST", &path, None).status, 400, "{bad}");
    }
    let seen = at_once(&agent, "DELETE", "/bascule/v1/containers/c1?force=1", None);
    assert_eq!((count(&seen, 204), count(&seen, 404)), (1, CLIENTS - 1), "{seen:?}");
    assert_eq!(agent.host.interfaces(), before);
}

#[test]
fn a_kill_among_a_hundred_who_ask_leaves_one_or_none() {
    let (_net, mut agent) = stage();
    for round in 0..4_u64 {
        let name = format!("n{round}");
        let body = json!({"Name": name, "Driver": "bridge"});
        let pid = i32::try_from(agent.pid()).expect("a process");
        let seen = thread::scope(|scope| {
            scope.spawn(move || {
                thread::sleep(Duration::from_millis(10 * round));
                nix::sys::signal::kill(
                    nix::unistd::Pid::from_raw(pid),
                    nix::sys::signal::Signal::SIGKILL,
                )
            });
            at_once(&agent, "POST", "/networks/create", Some(&body))
        });
        agent.kill9();
        agent.restart();
        let there = custom(&agent).contains(&name);
        assert!(count(&seen, 201) <= 1, "{seen:?}");
        assert!(there || count(&seen, 201) == 0, "who was told that it is there has it: {seen:?}");
        let again = agent.api("POST", "/networks/create", Some(&body)).status;
        assert_eq!(again, if there { 409 } else { 201 }, "{seen:?}");
        assert!(agent.host.interfaces().iter().filter(|n| n.starts_with("br-")).count() == 1);
        agent.ok(&format!("network rm {name}"));
    }
    assert!(!agent.host.interfaces().iter().any(|name| name.starts_with("br-")));
}

/// Sends bytes, says that there will be no more, and reads the answer to its end.
fn half_closed(agent: &Agent, bytes: &str) -> String {
    let mut stream = UnixStream::connect(agent.places.socket()).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    stream.write_all(bytes.as_bytes()).expect("sent");
    stream.shutdown(Shutdown::Write).expect("half closed");
    let mut answer = String::new();
    let read = stream.read_to_string(&mut answer);
    read.unwrap_or_else(|error| panic!("{bytes:?}: no end of the answer: {error}: {answer:?}"));
    answer
}

#[test]
fn who_has_said_everything_and_listens_is_answered() {
    let (_net, agent) = stage();
    for round in 0..20 {
        let body = format!("{{\"Name\":\"n{round}\"}}");
        let head = "POST /networks/create HTTP/1.1\r\nHost: x\r\nContent-Type: application/json";
        let length = body.len();
        let text =
            half_closed(&agent, &format!("{head}\r\nContent-Length: {length}\r\n\r\n{body}"));
        assert!(text.starts_with("HTTP/1.1 201"), "{round}: {text:?}");
        let text = half_closed(&agent, &format!("DELETE /networks/n{round} HTTP/1.0\r\n\r\n"));
        assert!(text.starts_with("HTTP/1.0 204"), "{round}: {text:?}");
    }
    // What never ends by itself goes on until the client is gone; and half a request is none.
    let mut stream = UnixStream::connect(agent.places.socket()).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    stream.write_all(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n").expect("sent");
    stream.shutdown(Shutdown::Write).expect("half closed");
    agent.network("seen", "");
    let mut text = String::new();
    while !text.contains("\"create\"") {
        let mut some = [0; 4096];
        let count = stream.read(&mut some).expect("events");
        assert_ne!(count, 0, "it ended: {text}");
        text += &String::from_utf8_lossy(&some[..count]);
    }
    assert!(!half_closed(&agent, "GET /networks HTTP/1.1\r\nHost").starts_with("HTTP/1.1 2"));
}

#[test]
fn listeners_that_are_gone_take_nobodys_place() {
    let (_net, agent) = stage();
    // More than there are places for; nothing happens meanwhile that they could be told.
    for round in 0..600 {
        let mut stream = UnixStream::connect(agent.places.socket()).expect("a connection");
        stream.write_all(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n").expect("sent");
        let mut first = [0; 12];
        stream.read_exact(&mut first).expect("an answer");
        assert_eq!(&first, b"HTTP/1.1 200", "{round}");
        if round % 2 == 0 {
            stream.shutdown(Shutdown::Write).expect("half closed");
        }
    }
    assert!(agent.answers());
}

#[test]
fn who_spells_a_request_letter_by_letter_is_answered() {
    let (_net, agent) = stage();
    let mut stream = UnixStream::connect(agent.places.socket()).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    let request = "POST /networks/create HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
                   Content-Type: application/json\r\nContent-Length: 13\r\n\r\n{\"Name\":\"n1\"}";
    for byte in request.bytes() {
        stream.write_all(&[byte]).expect("sent");
        thread::sleep(Duration::from_millis(1));
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
}

/// Numbers that are the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % end as u64).expect("it is below a number of this kind")
    }
}

#[test]
fn moby_api_001_requests_that_are_nearly_right_end_nothing() {
    const BODIES: [&str; 4] = [
        r#"{"Name":"n2","Driver":"bridge","EnableIPv6":true,"IPAM":{"Driver":"default","Config":[{"Subnet":"10.21.0.0/24","Gateway":"10.21.0.1","AuxiliaryAddresses":{"a":"10.21.0.9"}}]},"Labels":{"a":"b"},"Options":{"com.docker.network.driver.mtu":"1400"}}"#,
        r#"{"Container":"c1","EndpointConfig":{"IPAMConfig":{"IPv4Address":"10.21.0.7"},"Aliases":["a"],"Links":["c1:b"],"GwPriority":3,"MacAddress":"02:42:0a:15:00:07"}}"#,
        r#"{"Container":"c1","Force":true}"#,
        r#"{"Name":"c9","Networks":{"n1":{}},"Publish":["8080:80"],"Sandbox":{"Kind":"own"}}"#,
    ];
    const PATHS: [&str; 5] = [
        "POST /v1.41/networks/create",
        "POST /networks/n1/connect",
        "POST /networks/n1/disconnect",
        "POST /bascule/v1/containers",
        "POST /bascule/v1/why",
    ];
    let (_net, agent) = stage();
    agent.network("n1", "");
    agent.container("c1", "n1", "");
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    for round in 0..1_500 {
        let mut body = BODIES[dice.below(BODIES.len())].as_bytes().to_vec();
        for _ in 0..=dice.below(4) {
            let at = dice.below(body.len());
            match dice.below(5) {
                0 => body[at] = u8::try_from(dice.below(256)).expect("a byte"),
                1 => drop(body.remove(at)),
                2 => body.insert(at, b"{}[]\",:0-\\"[dice.below(10)]),
                3 => body.truncate(at.max(1)),
                _ => body.splice(at..at, [b'9'; 30]).for_each(drop),
            }
        }
        let path = PATHS[dice.below(PATHS.len())];
        let mut bytes = format!(
            "{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        bytes.extend_from_slice(&body);
        if dice.below(8) == 0 {
            let at = dice.below(bytes.len());
            bytes[at] = u8::try_from(dice.below(256)).expect("a byte");
        }
        let mut stream = UnixStream::connect(agent.places.socket()).expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(40))).expect("a timeout");
        stream.write_all(&bytes).ok();
        stream.shutdown(Shutdown::Write).ok();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok();
        let answer = String::from_utf8_lossy(&answer);
        let status = api::parse(&answer).map_or(0, |answer| answer.status);
        let sent = String::from_utf8_lossy(&bytes).into_owned();
        // Docker's own word for "not connected" is 500.
        let known = status != 500 || answer.contains("is not connected to");
        assert!(known, "{round}: {sent}: {answer}");
    }
    assert!(agent.answers());
    let log = agent.log();
    assert!(!log.contains("panicked"), "{log}");
    // Whatever of it was understood can be undone.
    agent.ok("rm -f c1");
    agent.ok("network prune -f");
    assert_eq!(custom(&agent), Vec::<String>::new());
}
