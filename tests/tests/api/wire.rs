//! What goes over the wire, byte by byte where clients look at bytes: headers, ends of lines, statuses and words.

use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
};

use bascule_tests::Agent;
use serde_json::{Value, json};

use crate::stage;

/// Sends a request and returns head and body as they come, the head in small letters.
fn exchange(
    agent: &Agent,
    method: &str,
    path: &str,
    headers: &str,
    body: &str,
) -> (String, String) {
    let mut stream = UnixStream::connect(agent.places.socket()).expect("a connection");
    let head = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}");
    let length = match body {
        "" => String::new(),
        body => format!("Content-Length: {}\r\n", body.len()),
    };
    stream.write_all(format!("{head}{length}\r\n{body}").as_bytes()).expect("sent");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    (head.to_ascii_lowercase(), body.to_owned())
}

#[test]
fn moby_api_001_every_answer_has_dockers_headers_and_lines() {
    let (_net, agent) = stage();
    for (method, path) in [
        ("GET", "/networks"),
        ("GET", "/v1.24/networks"),
        ("GET", "/networks/nosuch"),
        ("GET", "/nosuch"),
        ("DELETE", "/networks/bridge"),
        ("GET", "/v1.99/networks"),
        ("HEAD", "/_ping"),
    ] {
        let (head, body) = exchange(&agent, method, path, "", "");
        for header in
            ["server: docker/", "api-version: 1.51", "ostype: linux", "docker-experimental: false"]
        {
            assert!(head.contains(header), "{method} {path}: {header} is not in {head}");
        }
        assert!(
            head.lines().any(|line| line.starts_with("server: ") && line.ends_with(" (linux)"))
        );
        if method == "HEAD" {
            continue;
        }
        assert!(head.contains("content-type: application/json"), "{method} {path}: {head}");
        assert!(body.ends_with('\n'), "{method} {path}: {body:?}");
    }
    let (head, body) = exchange(&agent, "GET", "/_ping", "", "");
    assert!(head.starts_with("http/1.1 200") && body == "OK", "{head} {body:?}");
    let (bare, none) = exchange(&agent, "HEAD", "/_ping", "", "");
    assert!(bare.contains("content-length: 0") && none.is_empty(), "{bare} {none:?}");
    for head in [head, bare] {
        for header in [
            "content-type: text/plain; charset=utf-8",
            "cache-control: no-cache, no-store, must-revalidate",
            "pragma: no-cache",
            "swarm: inactive",
        ] {
            assert!(head.contains(header), "{header} is not in {head}");
        }
    }
    let json = "Content-Type: application/json\r\n";
    for (headers, body, status, words) in [
        ("", "{\"Name\":\"n1\"}", "400", "unsupported Content-Type header"),
        (
            "Content-Type: text/plain\r\n",
            "{}",
            "400",
            "unsupported Content-Type header (text/plain): must be 'application/json'",
        ),
        (json, "{\"Name\":\"n1\"} {}", "400", "unexpected content after JSON"),
        (json, "{\"Name\":\"n1\"}", "201", "\"Id\":"),
    ] {
        let (head, answer) = exchange(&agent, "POST", "/networks/create", headers, body);
        let is_it = head.starts_with(&format!("http/1.1 {status}")) && answer.contains(words);
        assert!(is_it, "{body}: {head} {answer}");
    }
}

#[test]
fn s45_s47_p5_errors_have_dockers_status_and_words() {
    let (_net, agent) = stage();
    agent.network("n1", "--subnet 172.25.0.0/16 -o com.docker.network.bridge.name=br1");
    agent.network("cfg", "--config-only --subnet 10.33.0.0/24");
    agent.network("made", "--config-from cfg");
    let c1 = agent.container("c1", "n1", "--ip 172.25.0.9");
    agent.container("c2", "bridge", "");
    agent.ok("run -d --name h1 --network host");
    let config = |config: Value| json!({"Name": "x", "IPAM": {"Config": [config]}});
    let connect = |container: &str, endpoint: Value| json!({"Container": container, "EndpointConfig": endpoint});
    let at = |ip: &str| json!({"IPAMConfig": {"IPv4Address": ip}});
    let create = "/networks/create";
    let cases: Vec<(&str, &str, Value, u16, &str)> = vec![
        ("GET", "/networks/nosuch", Value::Null, 404, "network nosuch not found"),
        ("POST", create, json!({"Name": "n1"}), 409, "network with name n1 already exists"),
        (
            "POST",
            create,
            json!({"Name": "bridge"}),
            403,
            "operation is not permitted on predefined bridge network ",
        ),
        (
            "DELETE",
            "/networks/bridge",
            Value::Null,
            403,
            "bridge is a pre-defined network and cannot be removed",
        ),
        (
            "DELETE",
            "/networks/n1",
            Value::Null,
            403,
            "error while removing network: network n1 has active endpoints (name:\"c1\" id:\"",
        ),
        ("DELETE", "/networks/cfg", Value::Null, 403, "configuration network \"cfg\" is in use"),
        (
            "POST",
            create,
            config(json!({"Subnet": "172.26.1.0/16"})),
            400,
            "invalid network config:\ninvalid subnet 172.26.1.0/16: it should be 172.26.0.0/16",
        ),
        (
            "POST",
            create,
            config(json!({"Subnet": "172.26.0.0/16", "Gateway": "10.0.0.1"})),
            400,
            "invalid gateway 10.0.0.1: parent subnet 172.26.0.0/16 doesn't contain this address",
        ),
        (
            "POST",
            create,
            config(json!({"Subnet": "172.26.0.0/16", "AuxiliaryAddresses": {"r": "10.0.0.1"}})),
            400,
            "invalid auxiliary address r: parent subnet 172.26.0.0/16 doesn't contain this address",
        ),
        (
            "POST",
            create,
            config(json!({"Subnet": "172.26.0.0/16", "IPRange": "172.0.0.0/8"})),
            400,
            "invalid ip-range 172.0.0.0/8: CIDR block is bigger than its parent subnet 172.26.0.0/16",
        ),
        (
            "POST",
            create,
            config(json!({"Subnet": "172.26.0.0/16", "IPRange": "172.27.0.0/24"})),
            400,
            "invalid ip-range 172.27.0.0/24: parent subnet 172.26.0.0/16 doesn't contain ip-range",
        ),
        (
            "POST",
            create,
            config(json!({"Subnet": "172.25.8.0/24"})),
            403,
            "Pool overlaps with other one on this address space",
        ),
        (
            "POST",
            create,
            json!({"Name": "x", "Options": {"com.docker.network.bridge.name": "br1"}}),
            403,
            "networks have same bridge name",
        ),
        (
            "POST",
            create,
            json!({"Name": "x", "Driver": "overlay"}),
            403,
            "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again",
        ),
        (
            "POST",
            create,
            json!({"Name": "x", "Options": {"com.docker.network.bridge.enable_icc": "perhaps"}}),
            400,
            "com.docker.network.bridge.enable_icc",
        ),
        (
            "POST",
            "/networks/n1/connect",
            connect("c1", json!({})),
            403,
            "endpoint with name c1 already exists in network n1",
        ),
        (
            "POST",
            "/networks/n1/disconnect",
            json!({"Container": "c2"}),
            500,
            "is not connected to network n1",
        ),
        (
            "POST",
            "/networks/bridge/connect",
            connect("c1", at("172.17.0.77")),
            400,
            "invalid endpoint settings:\nuser-specified IP address is supported on user-defined networks only",
        ),
        (
            "POST",
            "/networks/bridge/connect",
            connect("c1", json!({"Aliases": ["db"]})),
            400,
            "network-scoped aliases are only supported for user-defined networks",
        ),
        (
            "POST",
            "/networks/n1/connect",
            connect("c2", at("10.0.0.7")),
            400,
            "no configured subnet contains IP address 10.0.0.7",
        ),
        (
            "POST",
            "/networks/n1/connect",
            connect("c2", at("172.25.0.9")),
            403,
            "Address already in use",
        ),
        (
            "POST",
            "/networks/n1/connect",
            connect("h1", json!({})),
            400,
            "container sharing network namespace with another container or host cannot be connected to any other network",
        ),
        (
            "POST",
            "/networks/n1/connect",
            connect("nosuch", json!({})),
            404,
            "No such container: nosuch",
        ),
        (
            "GET",
            "/v1.20/networks",
            Value::Null,
            400,
            "client version 1.20 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version",
        ),
        (
            "GET",
            "/v1.99/networks",
            Value::Null,
            400,
            "client version 1.99 is too new. Maximum supported API version is 1.51",
        ),
        ("GET", "/nosuch", Value::Null, 404, "page not found"),
        (
            "GET",
            "/networks?filters=%7B%22foo%22:%5B%22x%22%5D%7D",
            Value::Null,
            400,
            "invalid filter 'foo'",
        ),
    ];
    let mut wrong = vec![];
    for (method, path, body, status, words) in cases {
        let answer = agent.api(method, path, Some(&body).filter(|body| !body.is_null()));
        if answer.status != status || !answer.message().contains(words) {
            wrong.push(format!(
                "{method} {path} {body}: {} {:?}; not {status} {words:?}",
                answer.status,
                answer.message()
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // By the beginning of an id that several have.
    let ids: Vec<String> = (0..20).map(|n| agent.network(&format!("m{n}"), "")).collect();
    let first = |id: &String| id.as_bytes()[0];
    let twin = ids
        .iter()
        .enumerate()
        .find(|(n, id)| ids[..*n].iter().any(|other| first(other) == first(id)));
    let (_, twin) = twin.expect("of twenty, two begin alike");
    let answer = agent.api("GET", &format!("/networks/{}", &twin[..1]), None);
    assert_eq!(answer.status, 400);
    assert!(
        answer.message().contains(&format!("network {} is ambiguous (", &twin[..1])),
        "{answer:?}"
    );
    assert!(answer.message().contains("matches found based on ID prefix)"), "{answer:?}");
    drop(c1);
}

#[test]
fn s8_p2_objects_have_dockers_keys() {
    let (_net, agent) = stage();
    agent.network("n1", "--subnet 172.25.0.0/24 --label team=a");
    let c1 = agent.container("c1", "n1", "");
    let keys = |value: &Value| -> Vec<String> {
        let mut keys: Vec<_> = value.as_object().expect("an object").keys().cloned().collect();
        keys.sort();
        keys
    };
    let every = [
        "Attachable",
        "ConfigFrom",
        "ConfigOnly",
        "Containers",
        "Created",
        "Driver",
        "EnableIPv4",
        "EnableIPv6",
        "IPAM",
        "Id",
        "Ingress",
        "Internal",
        "Labels",
        "Name",
        "Options",
        "Scope",
    ];
    let listed = agent.api("GET", "/networks", None).body;
    for network in listed.as_array().expect("a list") {
        let found: Vec<_> = keys(network).into_iter().filter(|key| key != "Status").collect();
        assert_eq!(found, every, "{network}");
        assert_eq!(network["Containers"], json!({}), "lists leave them out");
        let is_made = network["Driver"] == "bridge";
        let config = network["IPAM"]["Config"].as_array().map_or(0, Vec::len);
        assert_eq!(config, usize::from(is_made), "{network}");
    }
    let shown = agent.api("GET", "/networks/n1?verbose=true&scope=local", None).body;
    assert_eq!(keys(&shown["IPAM"]), ["Config", "Driver", "Options"]);
    assert_eq!(
        shown["IPAM"]["Config"],
        json!([{"Subnet": "172.25.0.0/24", "Gateway": "172.25.0.1"}])
    );
    assert_eq!(shown["ConfigFrom"], json!({"Network": ""}));
    let place = &shown["Containers"][&c1.id];
    assert_eq!(keys(place), ["EndpointID", "IPv4Address", "IPv6Address", "MacAddress", "Name"]);
    let created = shown["Created"].as_str().expect("a time");
    assert!(created.len() >= 20 && created.contains('T'), "{created}");
    let options = &agent.api("GET", "/networks/bridge", None).body["Options"];
    for (key, value) in [
        ("bridge.default_bridge", "true"),
        ("bridge.enable_icc", "true"),
        ("bridge.enable_ip_masquerade", "true"),
        ("bridge.host_binding_ipv4", "0.0.0.0"),
        ("bridge.name", "bascule0"),
        ("driver.mtu", "1500"),
    ] {
        assert_eq!(options[format!("com.docker.network.{key}")], value, "{options}");
    }

    let body = json!({"Name": "n2", "CheckDuplicate": true, "ConfigFrom": null, "IPAM": null, "Options": null, "Labels": null});
    let made = agent.api("POST", "/v1.41/networks/create", Some(&body));
    assert_eq!((made.status, keys(&made.body)), (201, vec!["Id".to_owned(), "Warning".to_owned()]));
    // What a client sends along and nobody reads: what was read from another container's place.
    let endpoint = json!({
        "IPAMConfig": {"IPv4Address": "", "IPv6Address": "", "LinkLocalIPs": null}, "Links": null,
        "Aliases": null, "MacAddress": "", "DriverOpts": null, "GwPriority": 0, "NetworkID": "",
        "EndpointID": "", "Gateway": "", "IPAddress": "", "IPPrefixLen": 0, "IPv6Gateway": "",
        "GlobalIPv6Address": "", "GlobalIPv6PrefixLen": 0, "DNSNames": null
    });
    let body = json!({"Container": "c1", "EndpointConfig": endpoint});
    let answer = agent.api("POST", "/networks/n2/connect", Some(&body));
    assert_eq!((answer.status, answer.body), (200, json!("")));
    let answer = agent.api(
        "POST",
        "/networks/n2/disconnect",
        Some(&json!({"Container": "c1", "Force": true})),
    );
    assert_eq!((answer.status, answer.body), (200, json!("")));
    let prune = |filters: &str| agent.api("POST", &format!("/networks/prune{filters}"), None).body;
    assert_eq!(
        prune("?filters=%7B%22label%22:%7B%22team=b%22:true%7D%7D"),
        json!({"NetworksDeleted": null})
    );
    assert_eq!(prune(""), json!({"NetworksDeleted": ["n2"]}));
    let answer = agent.api("DELETE", "/networks/nosuch", None);
    assert_eq!(answer.status, 404);
}
