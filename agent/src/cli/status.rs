//! `bascule status`: the agent and its data plane at a glance.

mod verbose;

use std::fmt::Write;

use super::{Context, output};
use crate::{
    api::{paths, proto},
    error::{Failure, exit},
};

/// Prints how the agent is. The exit code is 1 where something is not as it should be.
pub fn status(context: &Context, verbose: bool) -> Result<u8, Failure> {
    let client = context.client()?;
    let path = paths::query(paths::STATUS, &[("verbose", if verbose { "1" } else { "" })]);
    let status: proto::Status = client.get(&path)?;
    if context.wants_json() {
        output::json(&status)?;
    } else {
        let details = status.details.as_ref().map(verbose::text).unwrap_or_default();
        output::print(&(text(&status) + &details))?;
    }
    Ok(if status.failures.is_empty() { exit::OK } else { exit::REFUSED })
}

fn text(status: &proto::Status) -> String {
    let mut text = String::new();
    let mut add = |name: &str, value: String| {
        // Writing to a string cannot fail.
        writeln!(text, "{:<14}{value}", format!("{name}:")).ok();
    };
    add(
        "Agent",
        format!("{}, process {}, since {}", status.version, status.pid, status.started_at),
    );
    add("Networks", status.networks.to_string());
    add("Containers", format!("{} ({} running)", status.containers, status.containers_running));
    add("Endpoints", status.endpoints.to_string());
    add("Published", format!("{} ranges", status.published));
    if status.denied > 0 {
        add("Denied", format!("{} prefixes", status.denied));
    }
    let search = match status.dns_search.as_slice() {
        [] => None,
        domains => Some(format!("search {}", domains.join(" "))),
    };
    let dns: Vec<_> = status.dns.iter().cloned().chain(search).collect();
    if !dns.is_empty() {
        add("DNS", dns.join(", "));
    }
    let reconcile = &status.reconcile;
    let repairs: u64 = reconcile.repairs.values().sum();
    add(
        "Reconcile",
        format!(
            "{} passes, {} actions, {repairs} repairs; last at {} in {:.1} ms",
            reconcile.passes,
            reconcile.actions,
            reconcile.last_pass,
            reconcile.last_seconds * 1000.0
        ),
    );
    if status.pending > 0 {
        add("Pending", format!("{} changes wait for their turn", status.pending));
    }
    let mut list = |title: &str, lines: Vec<String>| {
        if !lines.is_empty() {
            write!(text, "{title}:\n  {}\n", lines.join("\n  ")).ok();
        }
    };
    let pairs = |map: &proto::Map| -> Vec<String> {
        let width = map.keys().map(String::len).max().unwrap_or_default();
        map.iter().map(|(key, value)| format!("{key:<width$}  {value}")).collect()
    };
    let uplink = |uplink: &proto::UplinkStatus| {
        let addresses = [uplink.masquerade.as_str(), &uplink.masquerade6];
        let addresses: Vec<_> = addresses.into_iter().filter(|a| !a.is_empty()).collect();
        let address = match addresses.as_slice() {
            [] => "no address".to_owned(),
            addresses => format!("masquerades as {}", addresses.join(" and ")),
        };
        let deny = match uplink.deny.as_str() {
            "" => String::new(),
            "tc" => ", deny list in tc".to_owned(),
            mode => format!(", deny list in {mode} XDP"),
        };
        format!("{} (index {}), {address}, mtu {}{deny}", uplink.name, uplink.ifindex, uplink.mtu)
    };
    match status.uplinks.as_slice() {
        // Worth a line: nothing gets in or out.
        [] => list("Uplinks", vec!["none".to_owned()]),
        uplinks => list("Uplinks", uplinks.iter().map(uplink).collect()),
    }
    list("Places", pairs(&status.places));
    list("Kernel", pairs(&status.features));
    list("Warnings", status.warnings.clone());
    let failure = |f: &proto::Failure| {
        format!(
            "{}: {} ({} attempts, the next in {:.1} s)",
            f.object, f.error, f.attempts, f.retry_seconds
        )
    };
    list("Failures", status.failures.iter().map(failure).collect());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_fits_on_a_screen_and_leaves_out_what_is_empty() {
        let status = proto::Status {
            version: "0.1.0".into(),
            pid: 7,
            started_at: "2026-01-02T03:04:05Z".into(),
            networks: 2,
            containers: 3,
            containers_running: 1,
            uplinks: vec![proto::UplinkStatus {
                name: "up0".into(),
                ifindex: 4,
                masquerade: "198.51.100.1".into(),
                masquerade6: "2001:db8::1".into(),
                mtu: 1500,
                deny: "native".into(),
            }],
            places: [("run".to_owned(), "/run/bascule".to_owned())].into(),
            ..Default::default()
        };
        let golden = "\
Agent:        0.1.0, process 7, since 2026-01-02T03:04:05Z
Networks:     2
Containers:   3 (1 running)
Endpoints:    0
Published:    0 ranges
Reconcile:    0 passes, 0 actions, 0 repairs; last at  in 0.0 ms
Uplinks:
  up0 (index 4), masquerades as 198.51.100.1 and 2001:db8::1, mtu 1500, deny list in native XDP
Places:
  run  /run/bascule
";
        assert_eq!(text(&status), golden);
    }
}
