//! `GET /bascule/v1/connections`: what is tracked, by name.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{context::Context, maps, reply::Reply, request::Request};
pub use crate::telemetry::Connection;
use crate::{
    state::{Rejected, find},
    telemetry,
};

/// Connections that are shown where the request does not say how many.
const LIMIT: usize = 1_000;

/// What is tracked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct Connections {
    /// Connections, those that were used last first.
    pub connections: Vec<Connection>,
    /// How many there are of those that were asked for: more than are shown, where there is a limit.
    pub total: usize,
}

/// Lists the connections from or to a container that were used last, so many at most.
pub fn of_container(
    context: &Context,
    container: &str,
    limit: usize,
) -> Result<Connections, Rejected> {
    read(context, |c| c.from == container || c.to == container, limit)
}

/// Lists the connections, narrowed down by the query: `container`, `network`, `proto`, `translated`, and `limit`,
/// of which 0 is none.
pub(super) async fn list(context: &Context, request: &Request) -> Result<Reply, Rejected> {
    let desired = context.handle.shared.get().desired.clone();
    let container = request
        .value("container")
        .map(|reference| find::container(&desired, reference).map(|found| found.name.to_string()));
    let network = request
        .value("network")
        .map(|reference| find::network(&desired, reference).map(|found| found.name().to_owned()));
    let (container, network) = (container.transpose()?, network.transpose()?);
    let proto = request.value("proto").map(str::to_ascii_lowercase);
    let translated = request.switch("translated");
    let limit = request.value("limit").map_or(Ok(LIMIT), |text| {
        let wrong = |_| Rejected::invalid(format!("invalid limit {text:?}: it is not a number"));
        text.parse::<usize>().map_err(wrong)
    })?;
    let wanted = move |connection: &Connection| {
        container.as_ref().is_none_or(|c| [&connection.from, &connection.to].contains(&c))
            && network.as_ref().is_none_or(|n| connection.network == *n)
            && proto.as_ref().is_none_or(|p| connection.proto == *p)
            && (!translated || connection.kind != "routed")
    };
    maps::read(context, move |context| read(context, wanted, limit)).await
}

fn read(
    context: &Context,
    wanted: impl FnMut(&Connection) -> bool,
    limit: usize,
) -> Result<Connections, Rejected> {
    let found = telemetry::connections(&context.tables, &context.names.get(), wanted);
    let mut connections = found.map_err(Rejected::internal)?;
    let total = connections.len();
    connections.sort_by(|a, b| {
        (a.idle_seconds, &a.proto, &a.source).cmp(&(b.idle_seconds, &b.proto, &b.source))
    });
    if limit > 0 {
        connections.truncate(limit);
    }
    Ok(Connections { connections, total })
}
