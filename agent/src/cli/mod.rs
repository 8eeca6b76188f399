//! The command line: a client of the agent's socket, and the way to start the agent.
//!
//! [`args`] says what can be written, one file a noun does it, `output` prints. Nothing here
//! decides about the network.

pub mod args;
mod bugreport;
mod connectivity;
mod container;
mod docker;
mod endpoint;
mod filter;
mod flows;
mod inspection;
mod monitor;
mod network;
mod output;
mod pcapng;
mod policy;
mod port;
mod resolve;
mod run;
mod sandbox;
mod serve;
mod status;
mod template;
mod top;
mod why;

use std::{
    io,
    path::{Path, PathBuf},
};

use clap::CommandFactory;

use self::args::{Args, Container, Format, Global, Verb};
use crate::{
    api::client::Client,
    error::{Failure, exit},
};

/// Does what the command line asks for, and returns the exit code.
pub fn main(args: Args) -> Result<u8, Failure> {
    let context = Context { global: args.global };
    match args.verb {
        Verb::Agent(agent) => serve::agent(&context, *agent),
        Verb::Network(verb) => network::network(&context, verb),
        Verb::Container(verb) => match *verb {
            Container::Create(create) => container::create(&context, create),
            Container::Start(which) => container::start(&context, &which),
            Container::Stop(which) => container::stop(&context, &which),
            Container::Rm(which) => container::remove(&context, &which),
            Container::Ls(list) => container::list(&context, &list),
            Container::Inspect(which) => container::inspect(&context, &which),
            Container::Exec(exec) => run::exec(&context, exec),
            Container::Run(run) => run::run(&context, run),
            Container::Port(port) => port::port(&context, &port),
        },
        Verb::Docker(verb) => docker::docker(&context, verb),
        Verb::Policy(verb) => policy::policy(&context, verb),
        Verb::Run(run) => run::run(&context, *run),
        Verb::Exec(exec) => run::exec(&context, exec),
        Verb::Ps(list) => container::list(&context, &list),
        Verb::Port(port) => port::port(&context, &port),
        Verb::Create(create) => container::create(&context, *create),
        Verb::Start(which) => container::start(&context, &which),
        Verb::Stop(which) => container::stop(&context, &which),
        Verb::Rm(which) => container::remove(&context, &which),
        Verb::Inspect(which) => container::inspect_any(&context, &which),
        Verb::Resolve(args) => resolve::resolve(&context, &args),
        Verb::Why(args) => why::why(&context, args),
        Verb::Conntrack(args::Conntrack::Ls(list)) => inspection::connections(&context, &list),
        Verb::Nat(args::Nat::Ls(list)) => inspection::translations(&context, &list),
        Verb::Map(verb) => inspection::map(&context, &verb),
        Verb::Bugreport { file } => bugreport::bugreport(&context, file),
        Verb::Connectivity(verb) => connectivity::connectivity(&context, &verb),
        Verb::Monitor(args) => monitor::monitor(&context, *args),
        Verb::Flows(args) => flows::flows(&context, *args),
        Verb::Top(args) => top::top(&context, &args),
        Verb::Status { verbose } => status::status(&context, verbose),
        Verb::Completion { shell } => completion(shell),
        Verb::Man { dir } => man(dir.as_deref()),
    }
}

/// What every verb needs.
struct Context {
    global: Global,
}

impl Context {
    /// Makes a client of the agent.
    fn client(&self) -> Result<Client, Failure> {
        Ok(Client::new(&self.run_dir()?)?)
    }

    /// Finds the run directory: flag or environment, configuration file, default.
    fn run_dir(&self) -> Result<PathBuf, Failure> {
        serve::run_dir(&self.global)
    }

    fn wants_json(&self) -> bool {
        self.global.output == Format::Json
    }
}

/// Does something to each, prints each that it was done to, and goes on after a refusal.
fn for_each(
    names: &[String],
    mut act: impl FnMut(&str) -> Result<bool, Failure>,
) -> Result<u8, Failure> {
    let mut code = exit::OK;
    for name in names {
        match act(name) {
            Ok(true) => output::line(name)?,
            Ok(false) => {}
            Err(failure) => {
                output::complain(failure.to_string());
                code = failure.code();
            }
        }
    }
    Ok(code)
}

fn completion(shell: clap_complete::Shell) -> Result<u8, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "bascule", &mut script);
    output::print(&String::from_utf8_lossy(&script))?;
    Ok(exit::OK)
}

fn man(dir: Option<&Path>) -> Result<u8, Failure> {
    let failed = |dir: &Path, error: io::Error| {
        Failure::new(format!("cannot write the manual to {}: {error}", dir.display()))
    };
    if let Some(dir) = dir {
        std::fs::create_dir_all(dir).map_err(|error| failed(dir, error))?;
        clap_mangen::generate_to(Args::command(), dir).map_err(|error| failed(dir, error))?;
    } else {
        let mut page = Vec::new();
        clap_mangen::Man::new(Args::command()).render(&mut page)?;
        output::print(&String::from_utf8_lossy(&page))?;
    }
    Ok(exit::OK)
}
