//! `bascule agent`: from the command line to the agent's own settings.

use std::path::PathBuf;

use super::{
    Context,
    args::{Agent, AgentOptions, AgentVerb, Global, LogFormat},
    output,
};
use crate::{
    agent,
    config::{Config, Given},
    error::{Failure, exit},
};

/// Finds the run directory: flag or environment, configuration file, default.
pub fn run_dir(global: &Global) -> Result<PathBuf, Failure> {
    Ok(Config::resolve(of_clients(global)).map_err(anyhow::Error::from)?.run_dir)
}

/// Runs the agent, or removes what it left.
pub fn agent(context: &Context, args: Agent) -> Result<u8, Failure> {
    let config =
        Config::resolve(given(&context.global, args.options)).map_err(anyhow::Error::from)?;
    match args.verb {
        None => agent::run(&config).map_err(anyhow::Error::from)?,
        Some(AgentVerb::Cleanup { purge }) => {
            let cleaned = agent::cleanup(&config, purge).map_err(anyhow::Error::from)?;
            for line in &cleaned.left {
                output::line(format!("left: {line}"))?;
            }
            let agent::Cleaned { pins, links, sandboxes, sysctls, .. } = cleaned;
            output::line(format!(
                "removed {pins} pins and programs, {links} interfaces, {sandboxes} namespaces; gave {sysctls} sysctls back"
            ))?;
        }
    }
    Ok(exit::OK)
}

fn of_clients(global: &Global) -> Given {
    Given { config: global.config.clone(), run_dir: global.run_dir.clone(), ..Given::default() }
}

fn given(global: &Global, options: AgentOptions) -> Given {
    let log_format = options.log_format.map(|format| match format {
        LogFormat::Human => "human",
        LogFormat::Json => "json",
    });
    Given {
        state_dir: options.state_dir,
        bpffs: options.bpffs,
        cgroup: options.cgroup,
        metrics_listen: options.metrics_listen,
        uplink: options.uplink,
        bridge: options.bridge,
        ip_forward: options.ip_forward,
        log_format: log_format.map(str::to_owned),
        log_level: options.log_level,
        ..of_clients(global)
    }
}
