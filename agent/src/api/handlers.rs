//! What each request does.

use super::{
    bugreport, containers, context::Context, convert, docker, engine, events, flows, maps, monitor,
    names, networks, openapi, policy, reply::Reply, request::Request, route::Route, status,
    traffic, why,
};
use crate::state::{Change, Rejected};

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
        Route::Status => status::show(context, request).await,
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
        Route::Traffic => traffic::traffic(context).await,
        Route::Docker => docker::report(context).await,
        Route::DockerAdopt => docker::adopt(context, request).await,
        Route::DockerRelease => docker::release(context, request).await,
        Route::Denials => policy::list(context),
        Route::Deny => policy::deny(context, request).await,
        Route::Undeny => policy::undeny(context, request).await,
    }
}
