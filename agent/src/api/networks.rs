//! Networks, as Docker's engine has them.

use jiff::{SignedDuration, Timestamp};

use super::{
    context::Context, convert, events, filters::Filters, proto, reply::Reply, request::Request,
    route::ApiVersion, view,
};
use crate::state::{Change, Outcome, PruneFilter, Rejected, find};

/// What a list of networks can be narrowed by.
const FILTERS: [&str; 7] = ["dangling", "driver", "id", "label", "name", "scope", "type"];
/// Lists named the containers before this version.
const WITHOUT_CONTAINERS: ApiVersion = ApiVersion(1, 28);

/// Lists networks.
pub(super) fn list(context: &Context, request: &Request) -> Result<Reply, Rejected> {
    let desired = &context.handle.shared.get().desired;
    let filters = Filters::read(request.value("filters"), &FILTERS)?;
    let dangling = filters.switch("dangling")?;
    if let Some(kind) = filters.get("type").find(|kind| !["builtin", "custom"].contains(kind)) {
        return Err(Rejected::invalid(format!("invalid filter: 'type'='{kind}'")));
    }
    let (names, ids) = (filters.patterns("name")?, filters.patterns("id")?);
    let takes = |network: &proto::Network| {
        let builtin = [find::BRIDGE, find::HOST, find::NONE].contains(&network.name.as_str());
        let unused = || !builtin && network.containers.is_empty();
        filters.exactly("driver", &network.driver)
            && names.fit(&network.name)
            && ids.fit(&network.id)
            && filters.exactly("scope", &network.scope)
            && filters.labels(&network.labels)
            && filters.any("type", |kind| (kind == "builtin") == builtin)
            && dangling.is_none_or(|dangling| dangling == unused())
    };
    let mut shown: Vec<_> =
        find::networks(desired).map(|found| view::network(desired, found, true)).collect();
    shown.retain(takes);
    for network in &mut shown {
        network.status = None;
        if request.version >= WITHOUT_CONTAINERS {
            network.containers.clear();
        }
    }
    Reply::json(200, &shown)
}

/// Shows a network.
pub(super) fn inspect(context: &Context, request: &Request) -> Result<Reply, Rejected> {
    let desired = &context.handle.shared.get().desired;
    if let Some(verbose) = request.value("verbose")
        && !["0", "1", "f", "t", "F", "T", "false", "true", "False", "True", "FALSE", "TRUE"]
            .contains(&verbose)
    {
        return Err(Rejected::invalid(format!("invalid value for verbose: {verbose}")));
    }
    let shown = view::network(desired, find::network(desired, &request.id)?, true);
    if request.value("scope").is_some_and(|scope| scope != shown.scope) {
        return Err(Rejected::no_network(&request.id));
    }
    Reply::json(200, &shown)
}

/// Makes a network.
pub(super) async fn create(context: &Context, request: &Request) -> Result<Reply, Rejected> {
    let change = convert::network_create(request.read()?, request.version)?;
    let Outcome::Network(id, warnings) = context.handle.change(change).await? else {
        return Err(Rejected::internal("no network was made"));
    };
    let warning = warnings.join("; ");
    Reply::json(201, &proto::NetworkCreated { id: id.to_string(), warning })
}

/// Removes the networks that nobody is on.
pub(super) async fn prune(context: &Context, request: &Request) -> Result<Reply, Rejected> {
    let filters = Filters::read(request.value("filters"), &["label", "label!", "until"])?;
    let labels = |key| filters.get(key).map(str::to_owned).collect();
    let mut until = filters.get("until");
    let before = until.next().map(before).transpose()?;
    if until.next().is_some() {
        return Err(Rejected::invalid("more than one until filter specified"));
    }
    let filter = PruneFilter { before, labels: labels("label"), without: labels("label!") };
    let names = match context.handle.change(Change::PruneNetworks(filter)).await? {
        Outcome::Pruned(names) => names.iter().map(ToString::to_string).collect(),
        _ => Vec::new(),
    };
    let networks_deleted = Some(names).filter(|names| !names.is_empty());
    Reply::json(200, &proto::NetworksPruned { networks_deleted })
}

/// Reads a time, or how long ago it was: `10m`, `1h30m`.
fn before(text: &str) -> Result<Timestamp, Rejected> {
    let ago = || Timestamp::now().checked_sub(text.parse::<SignedDuration>().ok()?).ok();
    events::read_time(text).or_else(ago).ok_or_else(|| {
        Rejected::invalid(format!("invalid until {text:?}: neither a time nor a duration, as 10m"))
    })
}
