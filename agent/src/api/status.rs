//! `GET /bascule/v1/status`: how the agent is.

mod details;

use std::time::Instant;

use super::{context::Context, maps, proto, reply::Reply, request::Request};
use crate::{plan::Subject, state::Rejected};

/// Answers with how the agent is; `verbose` asks the kernel too, which waits.
pub(super) async fn show(context: &Context, request: &Request) -> Result<Reply, Rejected> {
    if !request.switch("verbose") {
        return Reply::json(200, &status(context));
    }
    maps::read(context, |context| {
        let details = Some(details::details(context)?);
        Ok(proto::Status { details, ..status(context) })
    })
    .await
}

/// Shows how the agent is.
pub(super) fn status(context: &Context) -> proto::Status {
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
        retry_seconds: failure.next.saturating_duration_since(Instant::now()).as_secs_f64(),
    });
    let mut warnings = context.facts.warnings.clone();
    warnings.extend(snapshot.forwarding.iter().chain(&snapshot.site).cloned());
    let configured = &snapshot.configured;
    let resolver = &configured.names.resolver;
    let refused = configured.refused.iter();
    warnings.extend(refused.map(|why| format!("the configuration is not reloaded: {why}")));
    proto::Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        started_at: context.facts.started_at.map(|t| t.to_string()).unwrap_or_default(),
        places: context.facts.places.clone(),
        features: context.facts.features.clone(),
        dns: resolver.servers.iter().map(ToString::to_string).collect(),
        dns_search: resolver.search.clone(),
        dns_options: resolver.options.clone(),
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
        pending: context.handle.waiting(),
        failures: failures.collect(),
        warnings,
        details: None,
    }
}
