//! Bad input: whatever comes over the socket is answered, changes nothing, and keeps nobody waiting.

use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

use bascule_tests::{Agent, api};
use serde_json::{Value, json};

use crate::stage;

/// Everything that a refused request must leave as it is.
fn everything(agent: &Agent) -> Vec<String> {
    let mut status = agent.api("GET", "/bascule/v1/status", None).body;
    status["Reconcile"] = Value::Null;
    let mut all = vec![
        agent.api("GET", "/networks", None).body.to_string(),
        agent.api("GET", "/networks/n1", None).body.to_string(),
        agent.api("GET", "/containers/c1/json", None).body.to_string(),
        agent.api("GET", "/bascule/v1/policy/deny", None).body.to_string(),
        status.to_string(),
    ];
    all.extend(agent.host.interfaces());
    all
}

/// Sends bytes, and returns what comes back until the end, or none where nothing does in time.
fn raw(agent: &Agent, bytes: &[u8]) -> String {
    let mut stream = UnixStream::connect(agent.places.socket()).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    stream.set_write_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    // An agent that has seen enough closes before it has read everything.
    stream.write_all(bytes).ok();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok();
    String::from_utf8_lossy(&answer).into_owned()
}

/// A request with a body, and with `Connection: close`.
fn request(method: &str, path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n{headers}\r\n"
    )
    .into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// Sends a body, and demands an answer that is neither a success nor a failure of the agent.
#[track_caller]
fn refused(agent: &Agent, method: &str, path: &str, body: &[u8]) -> api::Answer {
    let length = format!("Content-Length: {}\r\n", body.len());
    let text = raw(agent, &request(method, path, &length, body));
    let beginning = String::from_utf8_lossy(&body[..body.len().min(80)]).into_owned();
    let answer = api::parse(&text)
        .unwrap_or_else(|| panic!("{method} {path} {beginning}: no answer: {text:?}"));
    assert!((400..500).contains(&answer.status), "{method} {path} {beginning}: {answer:?}");
    assert!(!answer.message().is_empty(), "{method} {path} {beginning}: {answer:?}");
    answer
}

#[test]
fn moby_api_001_s_bodies_of_every_bad_kind_change_nothing() {
    let (_net, agent) = stage();
    agent.network("n1", "--subnet 10.84.0.0/24");
    agent.container("c1", "n1", "-p 8080:80");
    let before = everything(&agent);
    let places = [
        ("POST", "/networks/create"),
        ("POST", "/v1.24/networks/create"),
        ("POST", "/networks/n1/connect"),
        ("POST", "/networks/n1/disconnect"),
        ("POST", "/bascule/v1/containers"),
        ("POST", "/bascule/v1/containers/c1/process"),
        ("POST", "/bascule/v1/policy/deny"),
        ("DELETE", "/bascule/v1/policy/deny"),
        ("POST", "/bascule/v1/why"),
    ];
    let deep = "{\"Labels\":".to_owned() + &"[".repeat(50_000);
    let bodies: [&[u8]; 13] = [
        b"{invalid json",
        b"{} trailing content",
        b"[]",
        b"null",
        b"7",
        b"\"x\"",
        b"\0\0\0",
        b"\xff\xfe{}",
        b"{\"Name\":\"\xc3\x28\",\"Container\":\"\xc3\x28\",\"Prefixes\":[\"\xc3\x28\"],\"Source\":\"\xc3\x28\",\"Pid\":\"\xc3\x28\"}",
        b"{\"Name\":[],\"Container\":7,\"Prefixes\":\"x\",\"Source\":{},\"Pid\":1.5}",
        b"{\"Name\":\"n\\u0000\",\"Container\":\"c\\u0000\",\"Prefixes\":[\"\\u0000\"],\"Source\":\"\\u0000\",\"Pid\":0}",
        b"{\"Pid\":99999999999999999999999,\"Name\":99999999999999999999999,\"Container\":1e999,\"Prefixes\":[1e999],\"Source\":-0.0}",
        deep.as_bytes(),
    ];
    for (method, path) in places {
        for body in bodies {
            refused(&agent, method, path, body);
        }
    }
    let said = |body: &[u8]| refused(&agent, "POST", "/networks/create", body).message().to_owned();
    assert_eq!(
        said(b"{invalid json"),
        "invalid JSON: invalid character 'i' looking for beginning of object key string"
    );
    assert_eq!(said(b"{} trailing content"), "unexpected content after JSON");
    let text = raw(&agent, b"POST /networks/create HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\n{}");
    let answer = api::parse(&text).expect("an answer");
    assert_eq!(
        (answer.status, answer.message()),
        (400, "unsupported Content-Type header (text/plain): must be 'application/json'")
    );
    assert_eq!(everything(&agent), before);
}

#[test]
fn moby_api_001_keys_are_read_in_any_case_as_go_reads_them() {
    let (_net, agent) = stage();
    agent.container("c1", "bridge", "");
    let wish = json!({
        "name": "n1", "labels": {"Team": "a"}, "ipam": {"config": [{"subnet": "10.84.0.0/24"}]}
    });
    let made = agent.api("POST", "/v1.51/networks/create", Some(&wish));
    assert_eq!(made.status, 201, "{made:?}");
    let wish = json!({
        "CONTAINER": "c1", "endpointconfig": {"ipamConfig": {"ipv4address": "10.84.0.9"}}
    });
    assert_eq!(agent.api("POST", "/networks/n1/connect", Some(&wish)).status, 200);
    let network = agent.inspect("network", "n1");
    assert_eq!(network["Labels"], json!({"Team": "a"}), "keys of maps are what they are");
    assert!(network["Containers"].to_string().contains("10.84.0.9/24"), "{network}");
    let wish = json!({"container": "c1", "FORCE": false});
    assert_eq!(agent.api("POST", "/networks/n1/disconnect", Some(&wish)).status, 200);
}

#[test]
fn wishes_of_every_bad_kind_change_nothing() {
    let (_net, agent) = stage();
    agent.network("n1", "--subnet 10.84.0.0/24");
    agent.container("c1", "n1", "");
    let before = everything(&agent);
    let many = |count: usize| -> Value {
        (0..count).map(|n| (format!("k{n}"), json!("v"))).collect::<serde_json::Map<_, _>>().into()
    };
    let long = "x".repeat(10_000);
    let networks = [
        json!({}),
        json!({"Name": ""}),
        json!({"Name": " "}),
        json!({"Name": long}),
        json!({"Name": "n2", "Labels": many(5_000)}),
        json!({"Name": "n2", "Labels": {"k": "v".repeat(100_000)}}),
        json!({"Name": "n2", "Options": many(5_000)}),
        json!({"Name": "n2", "Options": {"com.docker.network.driver.mtu": "-5"}}),
        json!({"Name": "n2", "Options": {"com.docker.network.bridge.name": "a/b"}}),
        json!({"Name": "n2", "Options": {"com.docker.network.bridge.name": long}}),
        json!({"Name": "n2", "Driver": "../../x"}),
        json!({"Name": "n2", "IPAM": {"Config": [{"Subnet": "10.85.0.0/99"}]}}),
        json!({"Name": "n2", "IPAM": {"Config": [{"Subnet": "10.85.0.0/24", "Gateway": "x"}]}}),
        json!({"Name": "n2", "IPAM": {"Config": vec![json!({"Subnet": "10.85.0.0/24"}); 5_000]}}),
        json!({"Name": "n2", "IPAM": {"Config": [{"Subnet": long}]}}),
        json!({"Name": "n2", "IPAM": {"Driver": long}}),
    ];
    for body in &networks {
        refused(&agent, "POST", "/networks/create", body.to_string().as_bytes());
    }
    let containers = [
        json!({"Name": "_"}),
        json!({"Name": "c1"}),
        json!({"Networks": [{"Network": "nosuch"}]}),
        json!({"Networks": [{"Network": "n1", "Ip": "x"}]}),
        json!({"Networks": [{"Network": "n1", "Aliases": ["a\n127.0.0.1 evil"]}]}),
        json!({"Networks": [{"Network": "n1", "MacAddress": "zz"}]}),
        json!({"Publish": ["99999:80"]}),
        json!({"Publish": vec!["80"; 5_000]}),
        json!({"Expose": ["19039;1230"]}),
        json!({"Hostname": "a\nb"}),
        json!({"Netns": "relative"}),
        json!({"Pid": -1}),
        json!({"Pid": 1, "Netns": "/proc/1/ns/net"}),
        json!({"Command": ["a\u{0}"]}),
        json!({"Unknown": 1}),
    ];
    for body in &containers {
        refused(&agent, "POST", "/bascule/v1/containers", body.to_string().as_bytes());
    }
    for settings in [
        json!({"Aliases": ["a b"]}),
        json!({"IPAMConfig": {"IPv4Address": "10.84.0.999"}}),
        json!({"MacAddress": "02:42"}),
        json!({"DriverOpts": many(2_000)}),
        json!({"GwPriority": "high"}),
    ] {
        let body = json!({"Container": "c1", "EndpointConfig": settings}).to_string();
        refused(&agent, "POST", "/networks/bridge/connect", body.as_bytes());
    }
    assert_eq!(everything(&agent), before);
    // The command line refuses the same, with words.
    for line in ["network create --label a=\u{1}b --opt k\u{1}=v n2", "network create -- a\u{1}"] {
        let out = agent.cli(line.split(' '));
        assert!(matches!(out.code, 1 | 2) && !out.stderr.contains("panicked"), "{line:?}: {out:?}");
    }
    assert_eq!(everything(&agent), before);
}

#[test]
fn paths_and_queries_of_every_bad_kind_are_answered() {
    let (_net, agent) = stage();
    for path in [
        "/networks/%",
        "/networks/%zz",
        "/networks/%00",
        "/networks/%ff%fe",
        "/networks/../../etc/passwd",
        "/networks/..%2f..%2fetc",
        "//networks//nosuch//",
        "/v1.24",
        "/v1.24/v1.24/networks",
        "/v99999999999999999999.99999999999999/networks",
        "/networks?filters=%",
        "/networks?filters={",
        "/networks?filters=[]",
        "/networks?filters={\"name\":{\"a\":{\"b\":[]}},\"x\":1}",
        "/events?since=x",
        "/events?since=-99999999999999999999",
        "/containers/json?limit=x",
        "/containers/json?filters={\"exited\":[\"x\"]}",
    ] {
        let path = path.replace('{', "%7B").replace('}', "%7D").replace('"', "%22");
        let answer = agent.api("GET", &path, None);
        assert!((400..500).contains(&answer.status), "{path}: {answer:?}");
        assert!(!answer.message().is_empty(), "{path}: {answer:?}");
    }
    let long = format!("/networks/{}", "x".repeat(200_000));
    let text = raw(&agent, &request("GET", &long, "", b""));
    assert!(text.is_empty() || text.starts_with("HTTP/1.1 4"), "{text}");
    assert!(agent.answers());
}

#[test]
fn sizes_and_framing_are_bounded() {
    let (_net, agent) = stage();
    // A body that is too long: told before it is sent, found out while it is.
    let head = "Content-Length: 1073741824\r\n";
    let text = raw(&agent, &request("POST", "/networks/create", head, &vec![b' '; 2 << 20]));
    assert!(text.starts_with("HTTP/1.1 413") || text.is_empty(), "{text}");
    let chunk = [b"100000\r\n".as_slice(), &vec![b' '; 1 << 20], b"\r\n"].concat();
    let body = [chunk.as_slice(), &chunk, b"0\r\n\r\n"].concat();
    let text =
        raw(&agent, &request("POST", "/networks/create", "Transfer-Encoding: chunked\r\n", &body));
    assert!(text.starts_with("HTTP/1.1 413") || text.is_empty(), "{text}");
    // Chunks are as good as a length.
    let body = b"4\r\n{\"Na\r\nc\r\nme\":\"n1\"   }\r\n0\r\n\r\n";
    let text =
        raw(&agent, &request("POST", "/networks/create", "Transfer-Encoding: chunked\r\n", body));
    assert!(text.starts_with("HTTP/1.1 201"), "{text}");
    for (headers, body) in [
        ("Transfer-Encoding: chunked\r\n", &b"zz\r\n{}\r\n0\r\n\r\n"[..]),
        ("Transfer-Encoding: chunked\r\n", b"fffffffffffffffff\r\n"),
        ("Content-Length: -1\r\n", b"{}"),
        ("Content-Length: 99999999999999999999999\r\n", b"{}"),
        ("Content-Length: 1\r\nContent-Length: 2\r\n", b"{}"),
        ("X\0: y\r\n", b""),
        (": y\r\n", b""),
    ] {
        let text = raw(&agent, &request("POST", "/networks/create", headers, body));
        assert!(text.is_empty() || text.starts_with("HTTP/1.1 4"), "{headers}: {text}");
    }
    let flood: String = (0..5_000).map(|n| format!("X-{n}: y\r\n")).collect();
    let text = raw(&agent, &request("GET", "/networks", &flood, b""));
    assert!(text.is_empty() || text.starts_with("HTTP/1.1 431"), "{text}");
    let text =
        raw(&agent, &request("GET", "/networks", &format!("X: {}\r\n", "y".repeat(1 << 20)), b""));
    assert!(text.is_empty() || text.starts_with("HTTP/1.1 4"), "{text}");
    assert!(agent.answers());
}

#[test]
fn who_is_stuck_keeps_nobody_waiting() {
    let (_net, agent) = stage();
    let socket = agent.places.socket();
    let stuck = |bytes: &[u8]| {
        let mut stream = UnixStream::connect(&socket).expect("a connection");
        stream.write_all(bytes).expect("written");
        stream
    };
    let mut held = Vec::new();
    for _ in 0..40 {
        held.push(stuck(b""));
        held.push(stuck(b"GET /netw"));
        held.push(stuck(b"POST /networks/create HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"));
        held.push(stuck(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n"));
        // Asks for much, and takes none of it.
        held.push(stuck(&b"GET /info HTTP/1.1\r\nHost: x\r\n\r\n".repeat(200)));
    }
    let start = Instant::now();
    agent.network("n1", "");
    agent.container("c1", "n1", "");
    assert!(agent.answers());
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    // One more than there is room for is told so, at once; and there is room again when they have gone.
    let answer = bascule_tests::wait::wait_for("no room", Duration::from_secs(20), || {
        held.extend((0..8).map(|_| stuck(b"")));
        let answer = api::request(&socket, "GET", "/_ping", None).ok()?;
        (answer.status != 200).then_some(answer)
    });
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(answer.message().contains("too many connections"), "{answer:?}");
    assert!(held.len() > 400, "{}", held.len());
    drop(held);
    bascule_tests::wait::wait_until("there is room", Duration::from_secs(20), || agent.answers());
}
