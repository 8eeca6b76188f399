//! `bollard`, which others write their tools with.

use std::collections::HashMap;

use bascule_tests::Agent;
use bollard::{
    API_DEFAULT_VERSION, Docker,
    errors::Error,
    models::{
        EndpointSettings, Ipam, IpamConfig, NetworkConnectRequest, NetworkCreateRequest,
        NetworkDisconnectRequest,
    },
    query_parameters::{
        EventsOptionsBuilder, InspectContainerOptions, InspectNetworkOptions,
        ListContainersOptionsBuilder, ListNetworksOptionsBuilder, PruneNetworksOptions,
    },
};
use futures::TryStreamExt as _;

use crate::stage;

async fn connect(agent: &Agent) -> Docker {
    let socket = agent.places.socket();
    let path = socket.to_str().expect("a path");
    let docker = Docker::connect_with_socket(path, 30, API_DEFAULT_VERSION).expect("a client");
    docker.negotiate_version().await.expect("a version that both speak")
}

fn filter(key: &str, value: &str) -> HashMap<String, Vec<String>> {
    HashMap::from([(key.to_owned(), vec![value.to_owned()])])
}

#[test]
fn n43_bollard_lives_a_networks_life() {
    let (_net, agent) = stage();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let docker = connect(&agent).await;
        assert_eq!(docker.ping().await.expect("a ping"), "OK");
        let version = docker.version().await.expect("a version");
        assert_eq!(version.api_version.as_deref(), Some("1.51"));
        let info = docker.info().await.expect("info");
        assert_eq!(info.os_type.as_deref(), Some("linux"));

        let pool = IpamConfig { subnet: Some("10.77.0.0/24".to_owned()), ..IpamConfig::default() };
        let wanted = NetworkCreateRequest {
            name: "n1".to_owned(),
            ipam: Some(Ipam { config: Some(vec![pool]), ..Ipam::default() }),
            labels: Some(HashMap::from([("team".to_owned(), "a".to_owned())])),
            ..NetworkCreateRequest::default()
        };
        let made = docker.create_network(wanted.clone()).await.expect("a network");
        let again = docker.create_network(wanted).await.expect_err("its name is taken");
        assert!(
            matches!(&again, Error::DockerResponseServerError { status_code: 409, message } if message.contains("already exists")),
            "{again:?}"
        );
        let c1 = agent.container("c1", "bridge", "-p 8080:80");
        let wish = NetworkConnectRequest {
            container: "c1".to_owned(),
            endpoint_config: Some(EndpointSettings {
                aliases: Some(vec!["db".to_owned()]),
                ..EndpointSettings::default()
            }),
        };
        docker.connect_network("n1", wish).await.expect("connected");
        let shown = docker.inspect_network("n1", None::<InspectNetworkOptions>).await.expect("n1");
        assert_eq!(shown.id.as_deref(), Some(made.id.as_str()));
        let on = shown.containers.expect("containers");
        assert_eq!(on[&c1.id].ipv4_address.as_deref(), Some("10.77.0.2/24"));

        let options = ListNetworksOptionsBuilder::new().filters(&filter("label", "team=a")).build();
        let listed = docker.list_networks(Some(options)).await.expect("a list");
        assert_eq!(listed.len(), 1);
        let options = ListContainersOptionsBuilder::new().filters(&filter("network", "n1")).build();
        let listed = docker.list_containers(Some(options)).await.expect("a list");
        assert_eq!(listed[0].names.as_deref(), Some(&["/c1".to_owned()][..]));
        let shown = docker.inspect_container("c1", None::<InspectContainerOptions>).await.expect("c1");
        let networks = shown.network_settings.and_then(|s| s.networks).expect("networks");
        assert_eq!(networks["n1"].aliases.as_deref(), Some(&["db".to_owned()][..]));

        let wish = NetworkDisconnectRequest { container: "c1".to_owned(), force: Some(false) };
        docker.disconnect_network("n1", wish).await.expect("disconnected");
        let pruned = docker.prune_networks(None::<PruneNetworksOptions>).await.expect("pruned");
        assert_eq!(pruned.networks_deleted.as_deref(), Some(&["n1".to_owned()][..]));
        let gone = docker.remove_network("n1").await.expect_err("it is gone");
        assert!(
            matches!(&gone, Error::DockerResponseServerError { status_code: 404, .. }),
            "{gone:?}"
        );

        let options = EventsOptionsBuilder::new()
            .since("0")
            .until(&now())
            .filters(&filter("network", "n1"))
            .build();
        let events: Vec<_> = docker.events(Some(options)).try_collect().await.expect("events");
        let actions: Vec<_> = events.iter().filter_map(|event| event.action.as_deref()).collect();
        assert_eq!(actions, ["create", "connect", "disconnect", "destroy"]);
    });
}

/// Now, in seconds with a fraction.
fn now() -> String {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = since.expect("after 1970");
    format!("{}.{:09}", now.as_secs(), now.subsec_nanos())
}
