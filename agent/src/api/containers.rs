//! Containers: listed and shown as Docker does, made and run as Bascule does.

use std::{ops::RangeInclusive, time::Duration};

use jiff::Timestamp;

use super::{
    context::Context, convert, filters::Filters, pattern::Patterns, proto, reply::Reply,
    request::Request, view,
};
use crate::{
    kernel::process,
    model::{Container, Desired, Process, Sandbox},
    plan::Subject,
    reconcile::{Ending, Expected, Snapshot},
    state::{Change, Kind, Outcome, Rejected, find},
};

/// How long a stopped container's process may take to end before it is killed.
const GRACE: Duration = Duration::from_secs(10);
/// What a list of containers can be narrowed by.
const FILTERS: [&str; 15] = [
    "ancestor",
    "before",
    "exited",
    "expose",
    "health",
    "id",
    "is-task",
    "isolation",
    "label",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
];
/// States that Docker knows; not every one is ever reached here.
const STATES: [&str; 7] =
    ["created", "dead", "exited", "paused", "removing", "restarting", "running"];

/// Lists containers, the newest first.
pub(super) fn list(context: &Context, request: &Request) -> Result<Reply, Rejected> {
    let desired = &context.handle.shared.get().desired;
    let filters = Filters::read(request.value("filters"), &FILTERS)?;
    if let Some(state) = filters.get("status").find(|state| !STATES.contains(state)) {
        return Err(Rejected::invalid(format!("invalid filter 'status={state}'")));
    }
    for key in ["expose", "publish"] {
        if let Some(wrong) = filters.get(key).find(|wanted| ports_of(wanted).is_none()) {
            let why = format!("invalid filter '{key}={wrong}': invalid port");
            return Err(Rejected::invalid(why));
        }
    }
    let limit = match request.value("limit").map(str::parse::<i64>) {
        None => None,
        Some(Ok(limit)) => usize::try_from(limit).ok().filter(|limit| *limit > 0),
        Some(Err(_)) => return Err(Rejected::invalid("invalid value for limit: it is no number")),
    };
    let mut shown: Vec<_> = desired.containers.values().collect();
    shown.sort_by_key(|c| std::cmp::Reverse(c.created));
    let mut wanted = Wanted::new(desired, &filters)?;
    wanted.all = request.switch("all") || limit.is_some() || filters.has("status");
    shown.retain(|container| wanted.takes(container));
    shown.truncate(limit.unwrap_or(usize::MAX));
    let now = Timestamp::now();
    let shown: Vec<_> = shown.into_iter().map(|c| view::summary(desired, c, now)).collect();
    Reply::json(200, &shown)
}

/// Which containers a list has.
struct Wanted<'a> {
    filters: &'a Filters,
    names: Patterns,
    all: bool,
    before: Option<Timestamp>,
    since: Option<Timestamp>,
    exited: Vec<i32>,
}

impl<'a> Wanted<'a> {
    fn new(desired: &Desired, filters: &'a Filters) -> Result<Self, Rejected> {
        let made = |key| {
            let mut made = None;
            for reference in filters.get(key) {
                made = Some(find::container(desired, reference)?.created);
            }
            Ok(made)
        };
        let exited: Result<_, _> = filters.get("exited").map(str::parse).collect();
        let exited = exited
            .map_err(|_| Rejected::invalid("invalid filter 'exited': an exit code is a number"))?;
        let (before, since) = (made("before")?, made("since")?);
        let names = filters.patterns("name")?;
        Ok(Self { filters, names, all: false, before, since, exited })
    }

    fn takes(&self, container: &Container) -> bool {
        let asked = self.filters;
        let published = |wanted: &str| {
            container.publish.iter().any(|p| {
                p.host.unwrap_or(p.container).ports().any(|port| is_port(wanted, port, &p.proto))
            })
        };
        let exposed = |wanted: &str| {
            let served = container.served();
            served.iter().any(|e| e.ports.ports().any(|port| is_port(wanted, port, &e.proto)))
        };
        let on_network = |wanted: &str| {
            let places = &mut container.attachments.iter();
            places.any(|a| a.network_name.as_str() == wanted || a.network.to_string() == wanted)
                || container.attachments.is_empty() && view::network_mode(container) == wanted
        };
        // What there are no images, volumes and services for is asked for in vain.
        (self.all || container.running().is_some())
            && !["ancestor", "volume"].iter().any(|key| asked.has(key))
            && asked.exactly("health", "none")
            && asked.exactly("isolation", "default")
            && asked.any("is-task", |wanted| matches!(wanted, "false" | "0"))
            && asked.any("id", |wanted| container.id.to_string().starts_with(wanted))
            && (self.names.fit(container.name.as_str())
                || self.names.fit(&format!("/{}", container.name)))
            && asked.labels(&container.labels)
            && asked.exactly("status", container.status())
            && asked.any("network", on_network)
            && asked.any("publish", published)
            && asked.any("expose", exposed)
            && self.before.is_none_or(|before| container.created < before)
            && self.since.is_none_or(|since| container.created > since)
            && (self.exited.is_empty()
                || container.running().is_none()
                    && container.exit_code.is_some_and(|code| self.exited.contains(&code)))
    }
}

/// Reads `PORT[-END][/PROTO]`.
fn ports_of(wanted: &str) -> Option<(RangeInclusive<u16>, &str)> {
    let (ports, proto) = wanted.split_once('/').unwrap_or((wanted, "tcp"));
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    let range = first.parse().ok()?..=last.parse().ok()?;
    (!range.is_empty()).then_some((range, proto))
}

/// Compares with `PORT[-END][/PROTO]`.
fn is_port(wanted: &str, port: u16, proto: &impl ToString) -> bool {
    ports_of(wanted)
        .is_some_and(|(ports, wanted)| wanted == proto.to_string() && ports.contains(&port))
}

/// Shows a container.
pub(super) fn inspect(context: &Context, request: &Request) -> Result<Reply, Rejected> {
    let snapshot = context.handle.shared.get();
    let container = find::container(&snapshot.desired, &request.id)?;
    let error = failure(&snapshot, container);
    let mut shown = view::container(&snapshot.desired, &context.places, container, error);
    view::as_of(request.version, container, &mut shown);
    Reply::json(200, &shown)
}

/// Lists what a container has published.
pub(super) fn ports(context: &Context, request: &Request) -> Result<Reply, Rejected> {
    let desired = &context.handle.shared.get().desired;
    Reply::json(200, &view::published_ports(find::container(desired, &request.id)?))
}

/// Removes a container.
pub(super) async fn remove(context: &Context, request: &Request) -> Result<Reply, Rejected> {
    let (id, force) = (&request.id, request.switch("force"));
    let expected = match force {
        true => end_process(context, id, Ending::Kill, Duration::ZERO).await?,
        false => None,
    };
    let change = Change::RemoveContainer { container: id.clone(), force };
    let result = context.handle.change(change).await;
    drop(expected);
    result.map(|_| Reply::Empty(204))
}

fn failure(snapshot: &Snapshot, container: &Container) -> Option<String> {
    snapshot.failures.get(&Subject::Container(container.id)).map(|failure| failure.error.clone())
}

/// Makes a container.
pub(super) async fn create(context: &Context, request: &Request) -> Result<Reply, Rejected> {
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

/// Starts a container.
pub(super) async fn start(context: &Context, id: String) -> Result<Reply, Rejected> {
    context.handle.change(Change::Start(id.clone())).await?;
    let snapshot = context.handle.shared.get();
    let container = find::container(&snapshot.desired, &id)?;
    if container.running().is_none() {
        let name = &container.name;
        return Err(Rejected::conflict(format!("container {name} ended while it was started")));
    }
    let lost = || Rejected::internal("the container whose network it has is gone");
    let started = view::started(&snapshot.desired, &context.places, container).ok_or_else(lost)?;
    Reply::json(200, &started)
}

/// Stops a container.
pub(super) async fn stop(context: &Context, request: &Request) -> Result<Reply, Rejected> {
    let id = request.id.clone();
    let wishes: proto::ContainerStop = request.read_or_default()?;
    let grace = request.value("t").map_or(Ok(GRACE), |text| {
        let wrong = || Rejected::invalid(format!("invalid t: {text:?} is no number of seconds"));
        text.parse().map(Duration::from_secs).map_err(|_| wrong())
    })?;
    let ended = end_process(context, &id, Ending::Stop, grace).await?;
    let stop = Change::Stop { container: id, exit_code: wishes.exit_code };
    match context.handle.change(stop).await {
        // Ending its process may have removed it.
        Err(error) if error.kind == Kind::NotFound && ended.is_some() => Ok(Reply::Empty(204)),
        result => result.map(|_| Reply::Empty(204)),
    }
}

/// Ends the process that a client has executed in a container; one whose namespace was brought lives on. Returns what
/// has the journal tell of it as that `ending`, or nothing if there is no such container. It is the driver that says
/// so to the client, when its turn comes: it may be about the container's removal now.
async fn end_process(
    context: &Context,
    id: &str,
    ending: Ending,
    grace: Duration,
) -> Result<Option<Expected>, Rejected> {
    let snapshot = context.handle.shared.get();
    let container = match find::container(&snapshot.desired, id) {
        Err(error) if error.kind == Kind::NotFound => return Ok(None),
        found => found?,
    };
    let expected = Some(context.handle.journal.expect(container.id, ending));
    let Some(process) = container.running().and_then(|r| r.process) else { return Ok(expected) };
    if container.sandbox == Sandbox::Process(process.pid) {
        return Ok(expected);
    }
    process::end(process.pid, process.start_time, grace).await.map_err(|error| {
        Rejected::internal(format!("cannot stop container {}: {error}", container.name))
    })?;
    Ok(expected)
}

/// Follows a process that was executed in a container.
pub(super) async fn follow(context: &Context, request: &Request) -> Result<Reply, Rejected> {
    let proto::ProcessStarted { pid } = request.read()?;
    request.peer.may_follow(pid)?;
    let gone = || Rejected::invalid(format!("there is no process {pid}"));
    let start_time = process::start_time(pid).ok_or_else(gone)?;
    let process = Process { pid, start_time };
    context
        .handle
        .change(Change::Follow { container: request.id.clone(), process })
        .await
        .map(|_| Reply::Empty(204))
}
