//! `bascule agent`: from the command line to the agent's own settings.

use std::path::PathBuf;

use anyhow::Context as _;
use nix::sys::signal::{SigSet, Signal};

use super::{
    Context,
    args::{Agent, AgentOptions, AgentVerb, Global, LogFormat},
    output,
};
use crate::{
    agent::{self, Cleaned},
    config::{Config, ConfigError, Given},
    error::{Failure, exit},
};

/// Finds the run directory: flag or environment, configuration file, default.
pub fn run_dir(global: &Global) -> Result<PathBuf, Failure> {
    match &global.run_dir {
        // A client needs nothing else of the file, and does not stumble over it.
        Some(dir) => Ok(dir.clone()),
        None => Ok(resolve(given(global, AgentOptions::default()))?.run_dir),
    }
}

/// Finds the flow log that the configuration names.
pub fn flow_log(global: &Global) -> Result<Option<PathBuf>, Failure> {
    Ok(resolve(given(global, AgentOptions::default()))?.flow_log)
}

/// Runs the agent, or removes what it left.
pub fn agent(context: &Context, args: Agent) -> Result<u8, Failure> {
    let given = given(&context.global, args.options);
    let config = resolve(given.clone())?;
    match args.verb {
        None => agent::run(&config, &given).map_err(anyhow::Error::from)?,
        Some(AgentVerb::Cleanup { purge }) => {
            not_halfway()?;
            let cleaned = agent::cleanup(&config, purge).map_err(anyhow::Error::from)?;
            return report(context, &cleaned);
        }
    }
    Ok(exit::OK)
}

/// Leaves signals that ask for an end until there is one: what is removed is removed whole.
fn not_halfway() -> anyhow::Result<()> {
    let ending = SigSet::from_iter([Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM]);
    // Threads that are made from here on have the same mask.
    ending.thread_block().context("cannot hold signals back while cleaning up")
}

fn resolve(given: Given) -> Result<Config, Failure> {
    Config::resolve(given).map_err(|error| match error {
        ConfigError::Value { .. } => Failure::usage(error),
        ConfigError::File(_) => Failure::new(error),
    })
}

fn given(global: &Global, options: AgentOptions) -> Given {
    Given {
        config: global.config.clone(),
        state_dir: options.state_dir,
        run_dir: global.run_dir.clone(),
        bpffs: options.bpffs,
        cgroup: options.cgroup,
        docker_socket: options.docker_socket,
        docker_config: options.docker_config,
        docker_plugin: options.docker_plugin,
        metrics_listen: options.metrics_listen,
        metrics_compat: options.metrics_compat,
        ui: options.ui,
        flow_log: options.flow_log,
        max_connections: options.max_connections,
        rcu_expedited: options.rcu_expedited,
        uplink: options.uplink,
        bridge: options.bridge,
        bip: options.bip,
        fixed_cidr: options.fixed_cidr,
        icc: options.icc,
        ip: options.ip,
        mtu: options.mtu,
        dns: options.dns,
        dns_search: options.dns_search,
        dns_option: options.dns_option,
        dns_ttl: options.dns_ttl,
        default_bridge_dns: options.default_bridge_dns,
        resolv_conf: options.resolv_conf,
        host_gateway_ip: options.host_gateway_ip,
        ip_forward: options.ip_forward,
        ipv6: options.ipv6,
        fixed_cidr_v6: options.fixed_cidr_v6,
        ip_masq: options.ip_masq,
        allow_direct_routing: options.allow_direct_routing,
        dns_listen: options.dns_listen,
        bridge_accept_fwmark: options.bridge_accept_fwmark,
        default_address_pool: options.default_address_pool,
        publish_range: options.publish_range,
        log_format: options.log_format.map(|format| match format {
            LogFormat::Human => "human".to_owned(),
            LogFormat::Json => "json".to_owned(),
        }),
        log_level: options.log_level,
    }
}

/// Says what was removed, and what was left for a reason.
fn report(context: &Context, cleaned: &Cleaned) -> Result<u8, Failure> {
    let counts = [
        ("pins and programs", cleaned.pins),
        ("interfaces", cleaned.links),
        ("namespaces", cleaned.sandboxes),
        ("sysctl changes", cleaned.sysctls),
    ];
    if context.wants_json() {
        let mut value: serde_json::Map<_, _> =
            counts.iter().map(|(what, count)| ((*what).to_owned(), (*count).into())).collect();
        value.insert("left".to_owned(), cleaned.left.clone().into());
        output::json(&value)?;
    } else {
        let counts: Vec<_> = counts.iter().map(|(what, count)| format!("{count} {what}")).collect();
        output::line(format!("removed {}", counts.join(", ")))?;
    }
    for left in &cleaned.left {
        output::complain(format!("left: {left}"));
    }
    Ok(exit::OK)
}
