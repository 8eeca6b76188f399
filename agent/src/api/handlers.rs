//! What each request does.

use std::sync::Arc;

use jiff::Timestamp;

use super::{
    bugreport, containers, convert, engine, events, flows, maps, monitor, names, networks, openapi,
    policy, proto, reply::Reply, request::Request, route::Route, status, why,
};
use crate::{
    kernel::bpf::{Programs, Tables},
    reconcile::{Handle, Places},
    state::{Change, Rejected},
    telemetry::{Events, Metrics, SharedNames, log::Recent},
};

/// What the API needs to answer.
#[derive(Clone, Debug)]
pub struct Context {
    /// How changes are asked for.
    pub handle: Handle,
    /// Where the agent's files are.
    pub places: Places,
    /// Where counters are.
    pub tables: Arc<Tables>,
    /// The programs, as they are loaded.
    pub programs: Arc<Programs>,
    /// What is seen on the network.
    pub events: Events,
    /// What is measured.
    pub metrics: Arc<Metrics>,
    /// The last lines of the log.
    pub recent: Recent,
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

/// Answers a request.
pub(super) async fn answer(
    context: &Context,
    route: Route,
    request: &Request,
) -> Result<Reply, Rejected> {
    let change = async |change| context.handle.change(change).await;
    let id = || request.id.clone();
    match route {
        Route::Ping => Ok(Reply::Ping),
        Route::Version => Reply::json(200, &engine::version(context)),
        Route::Info => Reply::json(200, &engine::info(context, request)),
        Route::Events => events::events(context, request),
        Route::OpenApi => Ok(Reply::Json(200, openapi::document())),
        Route::Status => Reply::json(200, &status::status(context)),
        Route::Networks => networks::list(context, request),
        Route::Network => networks::inspect(context, request),
        Route::NetworkCreate => networks::create(context, request).await,
        Route::NetworkRemove => {
            change(Change::RemoveNetwork(id())).await.map(|_| Reply::Empty(204))
        }
        Route::NetworkPrune => networks::prune(context, request).await,
        Route::NetworkConnect => {
            change(convert::connect(id(), request.read()?)?).await.map(|_| Reply::Empty(200))
        }
        Route::NetworkDisconnect => {
            change(convert::disconnect(id(), request.read()?)?).await.map(|_| Reply::Empty(200))
        }
        Route::NetworkUpdate => {
            change(convert::network_update(id(), request.read()?)?).await.map(|_| Reply::Empty(204))
        }
        Route::Containers => containers::list(context, request),
        Route::Container => containers::inspect(context, request),
        Route::ContainerCreate => containers::create(context, request).await,
        Route::ContainerStart => containers::start(context, id()).await,
        Route::ContainerStop => containers::stop(context, request).await,
        Route::ContainerRemove => containers::remove(context, request).await,
        Route::ContainerProcess => containers::follow(context, request).await,
        Route::ContainerPorts => containers::ports(context, request),
        Route::Why => why::why(context, request).await,
        Route::Name => names::resolve(context, id()),
        Route::Policy => policy::rules(context, request),
        Route::Connections => flows::list(context, request).await,
        Route::Maps => maps::read(context, maps::maps).await,
        Route::Map => {
            let name = id();
            maps::read(context, move |context| maps::entries(context, &name)).await
        }
        Route::Bugreport => bugreport::bugreport(context, request).await,
        Route::Monitor => monitor::monitor(context, request),
        Route::Denials => policy::list(context),
        Route::Deny => policy::deny(context, request).await,
        Route::Undeny => policy::undeny(context, request).await,
    }
}
