//! Cases of Docker's own suites about its API that no other file here is about.

use bascule_tests::{Agent, Topology};
use serde_json::{Value, json};

use crate::{docker, docker_ok, docker_refused, stage};

/// Status and message of an answer.
fn said(agent: &Agent, method: &str, path: &str, body: Option<Value>) -> (u16, String) {
    let answer = agent.api(method, path, body.as_ref());
    (answer.status, answer.message().to_owned())
}

fn create(agent: &Agent, body: Value) -> (u16, String) {
    said(agent, "POST", "/networks/create", Some(body))
}

#[test]
fn moby_api_002_networks_are_listed_with_and_without_a_slash() {
    let (_net, agent) = stage();
    for path in ["/networks", "/networks/", "/v1.51/networks", "/v1.51/networks/"] {
        let answer = agent.api("GET", path, None);
        let names: Vec<_> =
            answer.body.as_array().into_iter().flatten().map(|n| &n["Name"]).collect();
        assert_eq!((answer.status, names.len()), (200, 3), "{path}: {answer:?}");
        for name in ["bridge", "host", "none"] {
            assert!(names.contains(&&json!(name)), "{path}: {names:?}");
        }
    }
    let filter = "/networks?filters=%7B%22name%22%3A%5B%22bridge%22%5D%7D";
    let found = agent.api("GET", filter, None).body;
    assert_eq!((found[0]["Name"].clone(), found[1].clone()), (json!("bridge"), Value::Null));
    let none = "/networks?filters=%7B%22name%22%3A%5B%22nosuch%22%5D%7D";
    assert_eq!(agent.api("GET", none, None).body, json!([]), "a list, and never null");
}

#[test]
fn moby_api_003_moby_api_004_moby_api_007_statuses_are_dockers() {
    let (_net, agent) = stage();
    for name in ["bridge", "host", "none"] {
        let (status, text) = create(&agent, json!({"Name": name}));
        assert!(
            status == 403 && text.contains("operation is not permitted on predefined"),
            "{text}"
        );
        let (status, text) = said(&agent, "DELETE", &format!("/networks/{name}"), None);
        let words = "is a pre-defined network and cannot be removed";
        assert!(status == 403 && text.contains(words), "{text}");
    }
    let made = agent.api("POST", "/networks/create", Some(&json!({"Name": "testnet"})));
    assert_eq!((made.status, made.body["Warning"].clone()), (201, json!("")));
    assert_eq!(made.body["Id"].as_str().map(str::len), Some(64));
    for body in [json!({"Name": "testnet"}), json!({"Name": "testnet", "CheckDuplicate": false})] {
        let taken = (409, "network with name testnet already exists".to_owned());
        assert_eq!(create(&agent, body), taken);
    }
    let c1 = agent.container("c1", "bridge", "");
    let body = json!({"Container": "c1"});
    assert_eq!(said(&agent, "POST", "/networks/testnet/connect", Some(body.clone())).0, 200);
    let shown = agent.api("GET", "/networks/testnet", None);
    let on = &shown.body["Containers"][&c1.id];
    assert_eq!((shown.status, &on["Name"], &on["IPv6Address"]), (200, &json!("c1"), &json!("")));
    assert!(on["IPv4Address"].as_str().is_some_and(|a| a.ends_with("/24")), "S10: {on}");
    assert!(on["EndpointID"].is_string() && on["MacAddress"].is_string(), "{on}");
    assert_eq!(said(&agent, "DELETE", "/networks/testnet", None).0, 403, "S17");
    assert_eq!(said(&agent, "POST", "/networks/testnet/disconnect", Some(body)).0, 200);
    assert_eq!(said(&agent, "DELETE", "/networks/testnet", None).0, 204);
    assert_eq!(said(&agent, "GET", "/networks/testnet", None).0, 404);
}

#[test]
fn moby_api_012_nobody_comes_to_the_host_network_or_leaves_it() {
    let (_net, agent) = stage();
    agent.network("n1", "");
    agent.container("c1", "n1", "");
    agent.ok("run -d --name h1 --network host");
    for (verb, network, container, words) in [
        ("connect", "host", "c1", "cannot connect container to host network"),
        ("disconnect", "host", "h1", "cannot disconnect container from host network"),
        ("disconnect", "host", "c1", "is not connected to network host"),
        ("connect", "n1", "h1", "cannot be connected to any other network"),
    ] {
        let error = agent.refused(&format!("network {verb} {network} {container}"));
        assert!(error.contains(words), "{verb} {network} {container}: {error}");
    }
}

#[test]
fn moby_api_014_what_belongs_to_a_network_of_its_own_is_refused_with_anothers() {
    let (_net, agent) = stage();
    agent.container("c1", "bridge", "");
    for (words, text) in [
        ("-p 8080:80", "conflicting options: port publishing and the container type network mode"),
        ("-P", "conflicting options: port publishing and the container type network mode"),
        ("--expose 80", "conflicting options: port exposing and the container type network mode"),
        ("--hostname x", "conflicting options: hostname and the network mode"),
        (
            "--mac-address 02:42:ac:11:00:42",
            "conflicting options: mac-address and the network mode",
        ),
        ("--link c1:x", "conflicting options: container type network can't be used with links"),
    ] {
        let error = agent.refused(&format!("create --name x --network container:c1 {words}"));
        assert!(error.contains(text), "{words}: {error}");
    }
    assert!(agent.refused("create --name x --network container:x").contains("o such container: x"));
}

/// Docker's request for a container is not served, in no version: ours has one of its own, and takes several networks.
#[test]
fn moby_api_018_a_container_is_made_on_several_networks() {
    let (_net, agent) = stage();
    agent.network("n1", "");
    agent.network("n2", "");
    let both = json!({"EndpointsConfig": {"n1": {}, "n2": {}}});
    for version in ["1.24", "1.43", "1.44", "1.51"] {
        let path = format!("/v{version}/containers/create");
        let body = json!({"Image": "x", "NetworkingConfig": both});
        let (status, text) = said(&agent, "POST", &path, Some(body));
        assert!(status == 404 && text.starts_with("page not found"), "{version}: {text}");
    }
    assert_eq!(agent.ok("ps -aq"), "");
    let body = json!({"Name": "c1", "Networks": [{"Network": "n1"}, {"Network": "n2"}]});
    let made = agent.api("POST", "/bascule/v1/containers", Some(&body));
    assert_eq!(made.status, 201, "{made:?}");
    agent.ok("container start c1");
    for version in ["1.43", "1.44"] {
        let shown = agent.api("GET", &format!("/v{version}/containers/c1/json"), None).body;
        for network in ["n1", "n2"] {
            let place = &shown["NetworkSettings"]["Networks"][network];
            let address = place["IPAddress"].as_str();
            assert!(address.is_some_and(|text| !text.is_empty()), "{version} {network}: {place}");
        }
    }
}

#[test]
fn moby_api_019_a_port_that_does_not_read_is_refused() {
    let (_net, agent) = stage();
    for key in ["Expose", "Publish"] {
        let body = json!({"Name": "c1", key: ["19039;1230"]});
        let (status, text) = said(&agent, "POST", "/bascule/v1/containers", Some(body));
        assert!(status == 400 && text.contains("port"), "{key}: {text}");
        assert!(text.contains("\"19039;1230\" is not a number from 1 to 65535"), "{key}: {text}");
    }
    assert_eq!(agent.ok("ps -aq"), "");
}

/// A binding that nobody has filled in is one, and a port that is exposed alone has no list: in no version is one empty.
#[test]
fn moby_pm_037_no_list_of_bindings_is_empty() {
    let (_net, agent) = stage();
    agent.network("n1", "");
    agent.container("c1", "n1", "--expose 80 -p 81");
    for version in ["1.24", "1.41", "1.51"] {
        let shown = agent.api("GET", &format!("/v{version}/containers/c1/json"), None).body;
        let wanted = &shown["HostConfig"]["PortBindings"];
        assert_eq!(wanted, &json!({"81/tcp": [{"HostIp": "", "HostPort": ""}]}), "{version}");
        let ports = &shown["NetworkSettings"]["Ports"];
        assert_eq!(ports["80/tcp"], Value::Null, "{version}");
        assert_eq!(ports["81/tcp"].as_array().map(Vec::len), Some(1), "{version}");
    }
}

#[test]
fn moby_api_020_a_bridge_is_one_networks() {
    let (_net, agent) = stage();
    let option = "-o com.docker.network.bridge.name=br-mine";
    agent.network("n1", option);
    let error = agent.refused(&format!("network create {option} n2"));
    assert!(
        error.contains("networks have same bridge name") && error.contains("br-mine"),
        "{error}"
    );
    for name in ["none", "host"] {
        assert!(agent.refused(&format!("network rm {name}")).contains("cannot be removed"));
    }
}

#[test]
fn moby_api_029_a_network_given_by_its_id_is_shown_by_its_name() {
    let net = Topology::new();
    let agent = Agent::start(&net.host);
    agent.ok("create --name c1");
    let shown = agent.inspect("container", "c1");
    assert!(shown["NetworkSettings"]["Networks"]["bridge"].is_object(), "{shown}");
    let id = agent.network("n1", "");
    let c2 = agent.container("c2", &id, "");
    let shown = agent.inspect("container", "c2");
    let address = &shown["NetworkSettings"]["Networks"]["n1"]["IPAddress"];
    assert_eq!(address, &json!(c2.address().to_string()));
}

#[test]
fn moby_api_028_a_container_leaves_networks_before_it_starts() {
    let (_net, agent) = stage();
    let mut ids = vec![];
    for name in ["test1", "test2", "test3"] {
        ids.push(docker_ok(&agent, &format!("network create {name}")));
    }
    agent.ok("container create --name c1");
    for name in ["test1", "test2", "test3"] {
        docker_ok(&agent, &format!("network connect {name} c1"));
    }
    docker_ok(&agent, "network disconnect bridge c1");
    docker_ok(&agent, &format!("network disconnect {} c1", ids[2]));
    agent.ok("container start c1");
    let format = "{{range $name, $place := .NetworkSettings.Networks}}{{$name}},{{end}}";
    let shown = docker(&agent, ["inspect", "--format", format, "c1"]);
    assert_eq!(shown.stdout.trim(), "test1,test2,", "{shown:?}");
    for network in ["bridge", "test3", &ids[2]] {
        let error = docker_refused(&agent, &format!("network disconnect {network} c1"));
        assert!(error.contains("is not connected to"), "{error}");
    }
}
