//! `docker -H unix://...` for what it asks of networks and containers.

use bascule_tests::Agent;
use serde_json::Value;

use crate::{docker, docker_ok, docker_refused, stage};

#[track_caller]
fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("no JSON: {error}: {text}"))
}

#[track_caller]
fn network(agent: &Agent, name: &str) -> Value {
    json(&docker_ok(agent, &format!("network inspect {name}")))[0].clone()
}

/// Older clients have words of their own for what is not there.
fn is_missing(error: &str, name: &str) -> bool {
    error.contains(&format!("network {name} not found"))
        || error.contains(&format!("No such network: {name}"))
}

#[test]
fn s1_s5_moby_api_024_networks_are_made_listed_shown_and_removed() {
    let (_net, agent) = stage();
    let listed = docker_ok(&agent, "network ls --format {{.Name}}/{{.Driver}}/{{.Scope}}");
    let mut listed: Vec<_> = listed.lines().collect();
    listed.sort_unstable();
    assert_eq!(listed, ["bridge/bridge/local", "host/host/local", "none/null/local"]);

    let id = docker_ok(
        &agent,
        "network create --subnet 10.71.0.0/24 --ip-range 10.71.0.128/25 --gateway 10.71.0.1 \
         --aux-address router=10.71.0.200 --label team=a -o com.docker.network.driver.mtu=1400 n1",
    );
    assert_eq!(id.len(), 64, "{id}");
    let shown = network(&agent, "n1");
    assert_eq!(shown["Id"], id.as_str());
    assert_eq!(shown["Driver"], "bridge");
    assert_eq!(shown["EnableIPv4"], true);
    assert_eq!(shown["Labels"]["team"], "a");
    assert_eq!(shown["Options"]["com.docker.network.driver.mtu"], "1400");
    let config = &shown["IPAM"]["Config"][0];
    assert_eq!(config["Subnet"], "10.71.0.0/24");
    assert_eq!(config["IPRange"], "10.71.0.128/25");
    // MOBY-API-024: without a mask.
    assert_eq!(config["Gateway"], "10.71.0.1");
    assert_eq!(config["AuxiliaryAddresses"]["router"], "10.71.0.200");
    // Decisions 8.30: the use of the addresses is always sent.
    assert!(shown["Status"]["IPAM"]["Subnets"]["10.71.0.0/24"].is_object(), "{shown}");

    assert_eq!(docker_ok(&agent, &format!("network inspect -f {{{{.Name}}}} {}", &id[..12])), "n1");
    assert_eq!(docker_ok(&agent, "network rm n1"), "n1");
    let error = docker_refused(&agent, "network inspect n1");
    assert!(is_missing(&error, "n1"), "{error}");
}

#[test]
fn p2_lists_are_narrowed_by_filters() {
    let (_net, agent) = stage();
    docker_ok(&agent, "network create --label team=a --label x n1");
    let id = docker_ok(&agent, "network create --label team=b n2");
    agent.container("c1", "n1", "");
    let names = |filters: &str| {
        let listed = docker_ok(&agent, &format!("network ls --format {{{{.Name}}}} {filters}"));
        let mut names: Vec<_> = listed.lines().map(str::to_owned).collect();
        names.sort_unstable();
        names.join(" ")
    };
    for (filters, wanted) in [
        ("--filter driver=bridge", "bridge n1 n2"),
        ("--filter driver=host --filter driver=null", "host none"),
        ("--filter name=n", "n1 n2 none"),
        ("--filter name=^n1$", "n1"),
        ("--filter name=^n[0-9]$", "n1 n2"),
        ("--filter name=1|2", "n1 n2"),
        ("--filter name=n(", ""),
        ("--filter label=team", "n1 n2"),
        ("--filter label=team=a --filter label=x", "n1"),
        ("--filter label=team=b --filter label=x", ""),
        ("--filter type=custom", "n1 n2"),
        ("--filter type=builtin", "bridge host none"),
        ("--filter scope=swarm", ""),
        ("--filter dangling=true", "n2"),
        ("--filter dangling=false", "bridge host n1 none"),
    ] {
        assert_eq!(names(filters), wanted, "{filters}");
    }
    assert_eq!(names(&format!("--filter id={}", &id[..10])), "n2");
    for (filters, words) in [
        ("--filter foo=x", "invalid filter 'foo'"),
        ("--filter type=x", "invalid filter: 'type'='x'"),
        ("--filter dangling=x", "invalid value for filter 'dangling'"),
    ] {
        let error = docker_refused(&agent, &format!("network ls {filters}"));
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn s22_moby_api_026_containers_are_connected_disconnected_and_seen() {
    let (_net, agent) = stage();
    docker_ok(&agent, "network create --subnet 10.72.0.0/24 n1");
    docker_ok(&agent, "network create --subnet 10.73.0.0/24 n2");
    let c1 = agent.container("c1", "n1", "-p 8080:80 -p 127.0.0.1:5353:53/udp");
    docker_ok(&agent, "network connect --ip 10.73.0.9 --alias db --driver-opt k=v n2 c1");
    let shown = network(&agent, "n2");
    let endpoint = &shown["Containers"][&c1.id];
    assert_eq!(endpoint["Name"], "c1");
    assert_eq!(endpoint["IPv4Address"], "10.73.0.9/24");
    assert_eq!(endpoint["EndpointID"].as_str().map(str::len), Some(64));
    assert_eq!(c1.address_on("eth1").to_string(), "10.73.0.9");

    let ports = docker_ok(&agent, "port c1");
    assert!(ports.contains("80/tcp -> 0.0.0.0:8080"), "{ports}");
    assert!(ports.contains("53/udp -> 127.0.0.1:5353"), "{ports}");
    assert_eq!(docker_ok(&agent, "port c1 80/tcp"), "0.0.0.0:8080");

    let listed = docker_ok(&agent, "ps --format {{.Names}}|{{.Ports}}|{{.Networks}}|{{.State}}");
    assert!(listed.contains("0.0.0.0:8080->80/tcp"), "{listed}");
    let on_both = listed.contains("|n1,n2|") || listed.contains("|n2,n1|");
    assert!(listed.starts_with("c1|") && on_both && listed.ends_with("|running"), "{listed}");

    let shown = json(&docker_ok(&agent, "inspect c1"))[0].clone();
    assert_eq!(shown["Name"], "/c1");
    assert_eq!(shown["NetworkSettings"]["Networks"]["n2"]["IPAddress"], "10.73.0.9");
    assert_eq!(shown["NetworkSettings"]["Networks"]["n2"]["Aliases"][0], "db");
    // MOBY-API-026: no alias is no list.
    let shown = agent.api("GET", "/containers/c1/json", None).body;
    assert_eq!(shown["NetworkSettings"]["Networks"]["n1"]["Aliases"], Value::Null);
    // What is no container is looked for among networks.
    assert_eq!(json(&docker_ok(&agent, "inspect n2"))[0]["Name"], "n2");
    let error = docker_refused(&agent, "inspect nosuch");
    assert!(error.contains("nosuch"), "{error}");

    let error = docker_refused(&agent, "network rm n2");
    assert!(error.contains("has active endpoints") && error.contains("c1"), "{error}");
    docker_ok(&agent, "network disconnect n2 c1");
    let error = docker_refused(&agent, "network disconnect n2 c1");
    assert!(error.contains("is not connected to"), "{error}");
    docker_ok(&agent, "network rm n2");
}

#[test]
fn p1_prune_removes_what_nobody_is_on() {
    let (_net, agent) = stage();
    for name in ["n1", "n2", "n3"] {
        docker_ok(&agent, &format!("network create {name}"));
    }
    agent.container("c1", "n2", "");
    // One that does not run has no endpoint there, and keeps nothing.
    agent.container("c2", "n3", "");
    agent.ok("stop c2");
    let pruned = docker_ok(&agent, "network prune -f");
    let mut pruned: Vec<_> = pruned.lines().collect();
    pruned.sort_unstable();
    assert_eq!(pruned, ["Deleted Networks:", "n1", "n3"]);
    assert_eq!(docker_ok(&agent, "network prune -f"), "");
    assert_eq!(docker_ok(&agent, "network ls -q --filter type=custom").lines().count(), 1);
}

#[test]
fn lists_of_containers_are_narrowed_by_filters() {
    let (_net, agent) = stage();
    agent.network("n1", "");
    agent.container("web-1", "n1", "--label tier=front -p 8081:80");
    agent.container("web-2", "bridge", "--label tier=back --expose 9000");
    agent.ok("container create --name idle --network n1");
    let names = |filters: &str| {
        let listed = docker_ok(&agent, &format!("ps --format {{{{.Names}}}} {filters}"));
        let mut names: Vec<_> = listed.lines().map(str::to_owned).collect();
        names.sort_unstable();
        names.join(" ")
    };
    for (filters, wanted) in [
        ("", "web-1 web-2"),
        ("-a", "idle web-1 web-2"),
        ("--filter name=web", "web-1 web-2"),
        ("--filter label=tier=back", "web-2"),
        ("--filter network=n1", "web-1"),
        ("-a --filter network=n1", "idle web-1"),
        ("--filter status=created", "idle"),
        ("--filter publish=8081", "web-1"),
        ("--filter expose=9000/tcp", "web-2"),
        ("-a --filter before=web-2", "web-1"),
        ("-a --filter since=web-1", "idle web-2"),
        ("--last 1", "idle"),
        ("--filter ancestor=debian", ""),
        ("--filter health=healthy", ""),
    ] {
        assert_eq!(names(filters), wanted, "{filters}");
    }
    for (filters, words) in [
        ("--filter foo=x", "invalid filter 'foo'"),
        ("--filter status=well", "invalid filter 'status=well'"),
        ("--filter before=nosuch", "No such container: nosuch"),
        ("--filter publish=19039;1230", "invalid filter 'publish=19039;1230': invalid port"),
        ("--filter expose=90-80/udp", "invalid filter 'expose=90-80/udp': invalid port"),
    ] {
        let error = docker_refused(&agent, &format!("ps {filters}"));
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn n43_the_client_learns_what_it_talks_to() {
    let (_net, agent) = stage();
    let said = docker(&agent, ["version", "--format", "{{json .Server}}"]);
    let version = json(&said.stdout);
    assert_eq!(version["ApiVersion"], "1.51");
    assert_eq!(version["MinAPIVersion"], "1.24");
    assert_eq!(version["Platform"]["Name"], "bascule network engine");
    let said = docker(&agent, ["info", "--format", "{{json .}}"]);
    let info = json(&said.stdout);
    let full = agent.api("GET", "/info", None).body;
    assert_eq!(full["FirewallBackend"]["Driver"], "bascule-ebpf");
    assert_eq!(info["Swarm"]["LocalNodeState"], "inactive");
    assert!(info["Plugins"]["Network"].as_array().is_some_and(|n| n.contains(&"bridge".into())));
    assert_eq!(docker(&agent, ["info"]).code, 0);
    // What a container engine does, it is told by name that it is not done here.
    let answer = agent.api("POST", "/v1.41/containers/create", None);
    assert_eq!(answer.status, 404);
    assert!(answer.message().starts_with("page not found: "), "{answer:?}");
    assert!(answer.message().contains("bascule run"), "{answer:?}");
    assert_eq!(agent.api("GET", "/nosuch", None).message(), "page not found");
}

#[test]
fn errors_are_dockers() {
    let (_net, agent) = stage();
    docker_ok(&agent, "network create --subnet 10.74.0.0/24 n1");
    agent.container("c1", "n1", "");
    for (line, words) in [
        ("network create n1", "network with name n1 already exists"),
        ("network create bridge", "operation is not permitted on predefined bridge network"),
        ("network rm bridge", "bridge is a pre-defined network and cannot be removed"),
        ("network create --subnet 10.74.0.0/16 n2", "Pool overlaps"),
        (
            "network create --subnet 10.74.0.0/24 n2",
            "Pool overlaps with other one on this address space",
        ),
        ("network create -d nosuch n2", "nosuch"),
        ("network connect n1 c1", "endpoint with name c1 already exists in network n1"),
        ("network connect n1 nosuch", "o such container: nosuch"),
        ("network connect host c1", "cannot connect container to host network"),
        ("network disconnect host c1", "is not connected to network host"),
        ("network connect --ip 10.99.0.1 bridge c1", "user-defined networks only"),
        ("network connect --alias a bridge c1", "network-scoped aliases are only supported"),
    ] {
        let error = docker_refused(&agent, line);
        assert!(error.contains("Error response from daemon"), "`docker {line}`: {error}");
        assert!(error.contains(words), "`docker {line}`: {error}");
    }
    assert!(is_missing(&docker_refused(&agent, "network rm nosuch"), "nosuch"));
    assert!(docker_refused(&agent, "port nosuch").contains("No such container: nosuch"));
}

/// What older and newer clients are sent.
#[test]
fn every_version_of_the_api_is_spoken() {
    let (_net, agent) = stage();
    agent.network("n1", "--subnet 10.75.0.0/24");
    agent.container("c1", "n1", "");
    for version in ["1.24", "1.27", "1.40", "1.41", "1.44", "1.47", "1.50", "1.51"] {
        let mut command = crate::docker_command(&agent);
        command.env("DOCKER_API_VERSION", version).args(["network", "ls", "-q"]);
        let out = bascule_tests::process::run(&mut command, bascule_tests::process::LIMIT);
        assert!(out.ok() && out.stdout.lines().count() == 4, "{version}: {out:?}");
    }
    let get = |path: &str| agent.api("GET", path, None).body;
    let containers = |version: &str| {
        let all = get(&format!("/v{version}/networks"));
        let n1 = all.as_array().and_then(|all| all.iter().find(|n| n["Name"] == "n1").cloned());
        n1.expect("n1")["Containers"].as_object().map(serde_json::Map::len)
    };
    assert_eq!(containers("1.27"), Some(1), "lists named the containers");
    assert_eq!(containers("1.28"), Some(0));
    let aliases = |version: &str| {
        let shown = get(&format!("/v{version}/containers/c1/json"));
        shown["NetworkSettings"]["Networks"]["n1"]["Aliases"].as_array().map(Vec::len)
    };
    assert_eq!(aliases("1.44"), Some(1), "the short id was an alias");
    assert_eq!(aliases("1.45"), None);
    assert!(get("/v1.48/info")["FirewallBackend"].is_null());
    assert!(get("/v1.49/info")["FirewallBackend"].is_object());
    // A network without IPv4 was not known before 1.48; nobody is given one by an older word.
    let body = serde_json::json!({"Name": "n4", "EnableIPv4": false});
    assert_eq!(agent.api("POST", "/v1.47/networks/create", Some(&body)).status, 201);
    assert_eq!(get("/networks/n4")["EnableIPv4"], true);
    for (path, words) in [
        (
            "/v1.23/networks",
            "client version 1.23 is too old. Minimum supported API version is 1.24",
        ),
        (
            "/v1.52/networks",
            "client version 1.52 is too new. Maximum supported API version is 1.51",
        ),
    ] {
        let answer = agent.api("GET", path, None);
        assert_eq!(answer.status, 400);
        assert!(answer.message().contains(words), "{answer:?}");
    }
}
