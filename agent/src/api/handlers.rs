//! What each request does.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{convert, paths, policy, proto, route::Route, view, why};
use crate::{
    kernel::{bpf::Tables, process},
    model::{Container, Desired, Process, Sandbox},
    plan::Subject,
    reconcile::{Handle, Places, Snapshot},
    state::{Change, Kind, Outcome, Rejected, find},
    telemetry::SharedNames,
};

/// How long a stopped container's process may take to end before it is killed.
const GRACE: Duration = Duration::from_secs(10);

/// What the API needs to answer.
#[derive(Clone, Debug)]
pub struct Context {
    /// How changes are asked for.
    pub handle: Handle,
    /// Where the agent's files are.
    pub places: Places,
    /// Where counters are.
    pub tables: Arc<Tables>,
    /// Names of what is in the tables.
    pub names: SharedNames,
    /// What the status says that never changes: places and features.
    pub facts: Arc<Facts>,
}

/// What never changes while the agent runs.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// When it was started.
    pub started_at: Option<Timestamp>,
    /// State, run and pin directories and the metrics address.
    pub places: proto::Map,
    /// What the kernel offers.
    pub features: proto::Map,
    /// Release of the kernel.
    pub kernel: String,
    /// What the operator should know.
    pub warnings: Vec<String>,
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// User id of the client; none where it could not be found.
    pub uid: Option<u32>,
}

impl Peer {
    /// Refuses who is not root.
    fn must_be_root(self, what: &str) -> Result<(), Rejected> {
        match self.uid {
            Some(0) => Ok(()),
            _ => Err(Rejected::forbidden(format!("{what} needs root"))),
        }
    }

    fn may_follow(self, pid: i32) -> Result<(), Rejected> {
        use std::os::unix::fs::MetadataExt as _;
        let owner = std::fs::metadata(format!("/proc/{pid}")).map(|found| found.uid()).ok();
        if owner.is_some() && owner == self.uid {
            Ok(())
        } else {
            self.must_be_root("another user's process")
        }
    }
}

/// A request as the transport has read it.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) peer: Peer,
    pub(super) query: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Request {
    /// Reads the body.
    pub(super) fn read<T: DeserializeOwned>(&self) -> Result<T, Rejected> {
        let mut stream = serde_json::Deserializer::from_slice(&self.body);
        let value = T::deserialize(&mut stream).map_err(|error| {
            match error.is_eof() && self.body.is_empty() {
                true => Rejected::invalid("a request body is needed"),
                false => Rejected::invalid(format!("invalid JSON: {error}")),
            }
        })?;
        stream.end().map_err(|_| Rejected::invalid("unexpected content after JSON"))?;
        Ok(value)
    }

    /// Reads the body, which may be missing.
    fn read_or_default<T: DeserializeOwned + Default>(&self) -> Result<T, Rejected> {
        if self.body.trim_ascii().is_empty() {
            return Ok(T::default());
        }
        self.read::<Option<T>>().map(Option::unwrap_or_default)
    }

    /// Reads a switch of the query.
    fn switch(&self, key: &str) -> bool {
        let value = self.query.iter().find(|(k, _)| k == key).map(|(_, v)| v.to_ascii_lowercase());
        value.is_some_and(|v| !matches!(v.as_str(), "" | "0" | "no" | "false" | "none"))
    }

    fn value(&self, key: &str) -> Option<&str> {
        self.query.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str()).filter(|v| !v.is_empty())
    }
}

/// What goes back.
#[derive(Debug, PartialEq)]
pub(super) enum Reply {
    Ping,
    Json(u16, Value),
    Empty(u16),
}

impl Reply {
    pub(super) fn json(status: u16, value: &impl Serialize) -> Result<Self, Rejected> {
        serde_json::to_value(value)
            .map(|value| Self::Json(status, value))
            .map_err(Rejected::internal)
    }
}

/// Answers a request.
pub(super) async fn answer(
    context: &Context,
    route: Route,
    request: &Request,
) -> Result<Reply, Rejected> {
    let desired = || Arc::clone(&context.handle.shared.get().desired);
    let change = async |change| context.handle.change(change).await;
    match route {
        Route::Ping => Ok(Reply::Ping),
        Route::Version => Reply::json(200, &version(context)),
        Route::Status => Reply::json(200, &status(context)),
        Route::Networks => Reply::json(200, &networks(&desired(), request)?),
        Route::Network(id) => {
            let desired = desired();
            Reply::json(200, &view::network(&desired, find::network(&desired, &id)?, true))
        }
        Route::NetworkCreate => {
            let outcome = change(convert::network_create(request.read()?)?).await?;
            let Outcome::Network(id) = outcome else {
                return Err(Rejected::internal("no network was made"));
            };
            Reply::json(201, &proto::NetworkCreated { id: id.to_string(), warning: String::new() })
        }
        Route::NetworkRemove(id) => {
            change(Change::RemoveNetwork(id)).await.map(|_| Reply::Empty(204))
        }
        Route::NetworkPrune => match change(Change::PruneNetworks).await? {
            Outcome::Pruned(names) => {
                let names: Vec<_> = names.iter().map(ToString::to_string).collect();
                let networks_deleted = Some(names).filter(|n| !n.is_empty());
                Reply::json(200, &proto::NetworksPruned { networks_deleted })
            }
            _ => Reply::json(200, &proto::NetworksPruned::default()),
        },
        Route::NetworkConnect(id) => {
            change(convert::connect(id, request.read()?)?).await.map(|_| Reply::Empty(200))
        }
        Route::NetworkDisconnect(id) => {
            change(convert::disconnect(id, request.read()?)?).await.map(|_| Reply::Empty(200))
        }
        Route::Containers => Reply::json(200, &containers(&desired(), request.switch("all"))),
        Route::Container(id) => {
            let snapshot = context.handle.shared.get();
            let container = find::container(&snapshot.desired, &id)?;
            let error = failure(&snapshot, container);
            Reply::json(200, &view::container(&snapshot.desired, &context.places, container, error))
        }
        Route::ContainerCreate => create(context, request).await,
        Route::ContainerStart(id) => start(context, id).await,
        Route::ContainerStop(id) => stop(context, id, request).await,
        Route::ContainerRemove(id) => {
            let force = request.switch("force");
            if force {
                end_process(context, &id, Duration::ZERO).await?;
            }
            change(Change::RemoveContainer { container: id, force })
                .await
                .map(|_| Reply::Empty(204))
        }
        Route::ContainerProcess(id) => follow(context, id, request).await,
        Route::Why => why::why(context, request).await,
        Route::Denials => policy::list(context),
        Route::Deny => policy::deny(context, request).await,
        Route::Undeny => policy::undeny(context, request).await,
        Route::ContainerPorts(id) => {
            let desired = desired();
            Reply::json(200, &view::published_ports(find::container(&desired, &id)?))
        }
    }
}

fn networks(desired: &Desired, request: &Request) -> Result<Vec<proto::Network>, Rejected> {
    let filters = request.value("filters").map_or(Ok(Vec::new()), filters)?;
    let all = find::networks(desired).map(|found| view::network(desired, found, false));
    Ok(all
        .filter(|network| filters.iter().all(|(key, values)| keeps(network, key, values)))
        .collect())
}

/// Reads Docker's filters, `{"driver":{"bridge":true}}` or `{"driver":["bridge"]}`.
fn filters(text: &str) -> Result<Vec<(String, Vec<String>)>, Rejected> {
    let invalid = || Rejected::invalid(format!("invalid filters {text:?}"));
    let value: Value = serde_json::from_str(text).map_err(|_| invalid())?;
    let mut filters = Vec::new();
    for (key, values) in value.as_object().ok_or_else(invalid)? {
        if !["driver", "id", "label", "name", "scope", "type"].contains(&key.as_str()) {
            return Err(Rejected::invalid(format!("invalid filter '{key}'")));
        }
        let values = match values {
            Value::Object(set) => set.keys().cloned().collect(),
            Value::Array(list) => {
                list.iter().filter_map(|v| v.as_str().map(str::to_owned)).collect()
            }
            _ => return Err(invalid()),
        };
        filters.push((key.clone(), values));
    }
    Ok(filters)
}

fn keeps(network: &proto::Network, key: &str, values: &[String]) -> bool {
    let builtin = ["bridge", "host", "none"].contains(&network.name.as_str());
    let matches = |value: &String| match key {
        "driver" => network.driver == *value,
        "id" => network.id.contains(value.as_str()),
        "name" => network.name.contains(value.as_str()),
        "scope" => network.scope == *value,
        "type" => (value == "builtin") == builtin,
        _ => match value.split_once('=') {
            Some((label, wanted)) => network.labels.get(label).is_some_and(|v| v == wanted),
            None => network.labels.contains_key(value),
        },
    };
    // Labels all have to be there; of the others, one is enough.
    if key == "label" {
        values.iter().all(matches)
    } else {
        values.is_empty() || values.iter().any(matches)
    }
}

fn containers(desired: &Desired, all: bool) -> Vec<proto::ContainerSummary> {
    let now = Timestamp::now();
    let mut shown: Vec<_> =
        desired.containers.values().filter(|c| all || c.running().is_some()).collect();
    // The newest first, as Docker does.
    shown.sort_by_key(|c| std::cmp::Reverse(c.created));
    shown.into_iter().map(|container| view::summary(desired, container, now)).collect()
}

fn failure(snapshot: &Snapshot, container: &Container) -> Option<String> {
    snapshot.failures.get(&Subject::Container(container.id)).map(|failure| failure.error.clone())
}

async fn create(context: &Context, request: &Request) -> Result<Reply, Rejected> {
    let wishes: proto::ContainerCreate = request.read()?;
    if wishes.netns.is_some() || wishes.pid.is_some() {
        request.peer.must_be_root("bringing a network namespace")?;
    }
    let outcome = context.handle.change(convert::container_create(wishes)?).await?;
    let Outcome::Container(id, warnings) = outcome else {
        return Err(Rejected::internal("no container was made"));
    };
    let snapshot = context.handle.shared.get();
    let name = snapshot.desired.containers.get(&id).map(|c| c.name.to_string()).unwrap_or_default();
    Reply::json(201, &proto::ContainerCreated { id: id.to_string(), name, warnings })
}

async fn start(context: &Context, id: String) -> Result<Reply, Rejected> {
    context.handle.change(Change::Start(id.clone())).await?;
    let snapshot = context.handle.shared.get();
    let container = find::container(&snapshot.desired, &id)?;
    if container.running().is_none() {
        let name = &container.name;
        return Err(Rejected::conflict(format!("container {name} ended while it was started")));
    }
    Reply::json(200, &view::started(&snapshot.desired, &context.places, container))
}

async fn stop(context: &Context, id: String, request: &Request) -> Result<Reply, Rejected> {
    let wishes: proto::ContainerStop = request.read_or_default()?;
    let grace = request.value("t").and_then(|t| t.parse().ok()).map_or(GRACE, Duration::from_secs);
    end_process(context, &id, grace).await?;
    let stop = Change::Stop { container: id.clone(), exit_code: wishes.exit_code };
    match context.handle.change(stop).await {
        // Ending its process may have removed it.
        Err(error) if error.kind == Kind::NotFound && find_name(context, &id).is_none() => {
            Ok(Reply::Empty(204))
        }
        result => result.map(|_| Reply::Empty(204)),
    }
}

fn find_name(context: &Context, id: &str) -> Option<String> {
    find::container(&context.handle.shared.get().desired, id).ok().map(|c| c.name.to_string())
}

/// Ends the process that a client has executed in a container; one whose namespace was brought lives on.
async fn end_process(context: &Context, id: &str, grace: Duration) -> Result<(), Rejected> {
    let snapshot = context.handle.shared.get();
    let container = find::container(&snapshot.desired, id)?;
    let Some(process) = container.running().and_then(|r| r.process) else { return Ok(()) };
    if container.sandbox == Sandbox::Process(process.pid) {
        return Ok(());
    }
    let ended = process::end(process.pid, process.start_time, grace).await;
    ended.map_err(|error| {
        Rejected::internal(format!("cannot stop container {}: {error}", container.name))
    })
}

async fn follow(context: &Context, id: String, request: &Request) -> Result<Reply, Rejected> {
    let proto::ProcessStarted { pid } = request.read()?;
    request.peer.may_follow(pid)?;
    let gone = || Rejected::invalid(format!("there is no process {pid}"));
    let start_time = process::start_time(pid).ok_or_else(gone)?;
    let process = Process { pid, start_time };
    context
        .handle
        .change(Change::Follow { container: id, process })
        .await
        .map(|_| Reply::Empty(204))
}

fn version(context: &Context) -> proto::Version {
    let details =
        view::map([("ApiVersion", paths::API_VERSION.to_owned()), ("Os", "linux".to_owned())]);
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    proto::Version {
        platform: proto::Platform { name: "bascule network engine".to_owned() },
        version: paths::ENGINE_VERSION.to_owned(),
        api_version: paths::API_VERSION.to_owned(),
        min_api_version: paths::MIN_API_VERSION.to_owned(),
        os: "linux".to_owned(),
        arch: arch.to_owned(),
        components: vec![proto::Component {
            name: "Engine".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            details,
        }],
        kernel_version: context.facts.kernel.clone(),
        ..proto::Version::default()
    }
}

fn status(context: &Context) -> proto::Status {
    let snapshot = context.handle.shared.get();
    let desired = &snapshot.desired;
    let name = |subject: &Subject| match subject {
        Subject::Host | Subject::DenyList => subject.to_string(),
        Subject::Network(id) => match desired.networks.get(id) {
            Some(network) => format!("network {}", network.name),
            None => subject.to_string(),
        },
        Subject::Container(id) => match desired.containers.get(id) {
            Some(container) => format!("container {}", container.name),
            None => subject.to_string(),
        },
    };
    let uplinks = snapshot.uplinks.iter().map(|uplink| proto::UplinkStatus {
        name: uplink.name.clone(),
        ifindex: uplink.index,
        masquerade: uplink.source.map(|ip| ip.to_string()).unwrap_or_default(),
        masquerade6: uplink.source6.map(|ip| ip.to_string()).unwrap_or_default(),
        mtu: uplink.mtu,
        deny: uplink.deny.unwrap_or_default().to_owned(),
    });
    let failures = snapshot.failures.iter().map(|(subject, failure)| proto::Failure {
        object: name(subject),
        error: failure.error.clone(),
        attempts: failure.attempts,
    });
    let mut warnings = context.facts.warnings.clone();
    warnings.extend(snapshot.forwarding.iter().cloned());
    let configured = &snapshot.configured;
    let refused = configured.refused.iter();
    warnings.extend(refused.map(|why| format!("the configuration is not reloaded: {why}")));
    proto::Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        started_at: context.facts.started_at.map(|t| t.to_string()).unwrap_or_default(),
        places: context.facts.places.clone(),
        features: context.facts.features.clone(),
        dns: configured.dns.clone(),
        dns_search: configured.dns_search.clone(),
        uplinks: uplinks.collect(),
        networks: desired.networks.len(),
        containers: desired.containers.len(),
        containers_running: desired.containers.values().filter(|c| c.running().is_some()).count(),
        endpoints: snapshot.endpoints,
        published: snapshot.published,
        denied: desired.denials.len(),
        reconcile: proto::ReconcileStatus {
            passes: snapshot.passes,
            actions: snapshot.actions,
            repairs: snapshot
                .repairs
                .iter()
                .map(|(kind, count)| ((*kind).to_owned(), *count))
                .collect(),
            last_pass: snapshot.last_pass.map(|t| t.to_string()).unwrap_or_default(),
            last_seconds: snapshot.last_seconds,
        },
        failures: failures.collect(),
        warnings,
    }
}
