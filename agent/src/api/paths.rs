//! Where the API answers: the one list of routes that the server and its clients build on.

/// File name of the socket in the run directory.
pub const SOCKET: &str = "bascule.sock";
/// API version that the agent speaks by default.
pub const API_VERSION: &str = "1.51";
/// Oldest API version that it accepts as a prefix of the path.
pub const MIN_API_VERSION: &str = "1.24";
/// Version that it reports as the engine's.
pub const ENGINE_VERSION: &str = concat!("28.5.2-bascule-", env!("CARGO_PKG_VERSION"));

/// `GET`, `HEAD`: is anyone there.
pub const PING: &str = "/_ping";
/// `GET`: [`super::proto::Version`].
pub const VERSION: &str = "/version";
/// `GET`: [`super::proto::Info`].
pub const INFO: &str = "/info";
/// `GET`: [`super::proto::Event`], one a line, as they happen.
pub const EVENTS: &str = "/events";
/// `GET`: list of [`super::proto::Network`].
pub const NETWORKS: &str = "/networks";
/// `POST` [`super::proto::NetworkCreate`]: [`super::proto::NetworkCreated`].
pub const NETWORKS_CREATE: &str = "/networks/create";
/// `POST`: [`super::proto::NetworksPruned`].
pub const NETWORKS_PRUNE: &str = "/networks/prune";
/// `GET`, with `all=1` for those that do not run: list of [`super::proto::ContainerSummary`].
pub const CONTAINERS: &str = "/containers/json";
/// `POST` [`super::proto::ContainerCreate`]: [`super::proto::ContainerCreated`].
pub const BASCULE_CONTAINERS: &str = "/bascule/v1/containers";
/// `GET`: list of [`super::policy::Denial`]; `POST` [`super::policy::Deny`], `DELETE`
/// [`super::policy::Undeny`]; no content.
pub const POLICY_DENY: &str = "/bascule/v1/policy/deny";
/// `GET`, with `network=` and `container=` for a part: list of [`super::policy::PolicyRule`].
pub const POLICY: &str = "/bascule/v1/policy";
/// `GET`, with `container=`, `network=`, `proto=`, `translated=1`, `limit=`: [`super::flows::Connections`].
pub const CONNECTIONS: &str = "/bascule/v1/connections";
/// `GET`: list of [`super::maps::Map`].
pub const MAPS: &str = "/bascule/v1/maps";
/// `GET`: [`super::bugreport::Bugreport`], for root.
pub const BUGREPORT: &str = "/bascule/v1/bugreport";
/// `GET`, with filters: [`super::monitor::Seen`], one a line, as it is seen.
pub const MONITOR: &str = "/bascule/v1/monitor";
/// `GET`: [`super::traffic::Traffic`].
pub const TRAFFIC: &str = "/bascule/v1/traffic";
/// `POST` [`super::why::Question`]: [`super::why::Answer`].
pub const WHY: &str = "/bascule/v1/why";
/// `GET`: [`super::docker::Report`].
pub const DOCKER: &str = "/bascule/v1/docker";
/// `POST`, for root: [`super::docker::Report`].
pub const DOCKER_ADOPT: &str = "/bascule/v1/docker/adopt";
/// `POST`, for root: [`super::docker::Report`].
pub const DOCKER_RELEASE: &str = "/bascule/v1/docker/release";
/// `GET`, with `verbose=1` for its details: [`super::proto::Status`].
pub const STATUS: &str = "/bascule/v1/status";
/// `GET`: a description of what begins with `/bascule/v1`, in OpenAPI 3.1.
pub const OPENAPI: &str = "/bascule/v1/openapi.json";

/// Returns where to `GET` what a name leads to: [`super::names::Resolved`].
pub fn name(name: &str) -> String {
    format!("/bascule/v1/names/{}", segment(name))
}

/// Returns the path of a network: `GET` [`super::proto::Network`], `DELETE`.
pub fn network(reference: &str) -> String {
    format!("/networks/{}", segment(reference))
}

/// Returns where to `GET` the networks that filters let through, as Docker writes these.
pub fn networks_filtered(filters: &str) -> String {
    format!("{NETWORKS}?filters={}", segment(filters))
}

/// Returns where to `POST` to remove unused networks that filters let through.
pub fn networks_prune(filters: &str) -> String {
    format!("{NETWORKS_PRUNE}?filters={}", segment(filters))
}

/// Returns where to `GET` a [`super::proto::Network`] with everything that is known.
pub fn network_verbose(reference: &str) -> String {
    format!("{}?verbose=true", network(reference))
}

/// Returns where to `POST` a [`super::proto::NetworkConnect`].
pub fn network_connect(reference: &str) -> String {
    format!("{}/connect", network(reference))
}

/// Returns where to `POST` a [`super::proto::NetworkDisconnect`].
pub fn network_disconnect(reference: &str) -> String {
    format!("{}/disconnect", network(reference))
}

/// Returns where to `POST` a [`super::proto::NetworkUpdate`].
pub fn network_update(reference: &str) -> String {
    format!("/bascule/v1/networks/{}/update", segment(reference))
}

/// Returns where to `GET` a [`super::proto::Container`].
pub fn container_inspect(reference: &str) -> String {
    format!("/containers/{}/json", segment(reference))
}

/// Returns the path of a container of ours: `DELETE`, with `force=1` for a running one.
pub fn container(reference: &str) -> String {
    format!("{BASCULE_CONTAINERS}/{}", segment(reference))
}

/// Returns where to `POST` for a start: [`super::proto::ContainerStarted`].
pub fn container_start(reference: &str) -> String {
    format!("{}/start", container(reference))
}

/// Returns where to `POST` for a stop; no content.
pub fn container_stop(reference: &str) -> String {
    format!("{}/stop", container(reference))
}

/// Returns where to `POST` the [`super::proto::ProcessStarted`] in a sandbox; no content.
pub fn container_process(reference: &str) -> String {
    format!("{}/process", container(reference))
}

/// Returns where to `GET` a list of [`super::proto::PublishedPort`].
pub fn container_ports(reference: &str) -> String {
    format!("{}/ports", container(reference))
}

/// Returns where to `GET` a list of [`super::maps::MapEntry`].
pub fn map(name: &str) -> String {
    format!("{MAPS}/{}", segment(name))
}

/// Returns a path with those pairs of a query whose value is not empty.
pub fn query(path: &str, pairs: &[(&str, &str)]) -> String {
    let pairs = pairs.iter().filter(|(_, value)| !value.is_empty());
    let query: Vec<_> = pairs.map(|(key, value)| format!("{key}={}", segment(value))).collect();
    if query.is_empty() { path.to_owned() } else { format!("{path}?{}", query.join("&")) }
}

/// Escapes what a path segment cannot hold.
fn segment(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_cannot_leave_its_segment() {
        assert_eq!(network_connect("../a b?"), "/networks/..%2Fa%20b%3F/connect");
    }
}
