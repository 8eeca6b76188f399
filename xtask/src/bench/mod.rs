//! `cargo xtask bench`: measurements that compare, in one run, what has to be compared.
//!
//! - `attach`: milliseconds from asking for an attachment to having it, ours and Docker's.
//! - `blast`: a sender that costs next to nothing a frame.
//! - `datapath`: nanoseconds a packet in the programs, over a program that does nothing.
//! - `deny`: the deny list against the same list in netfilter.
//! - `docker`: what publishing costs with Docker's own rules, and when its networks are taken over.
//! - `dns`: answers about names, beside dnsmasq and aardvark-dns.
//! - `metrics`: what a scrape costs.
//! - `hosts`: namespaces to measure in, and their removal.
//! - `peers`: ours beside Docker, netavark and the plain kernel, against what is aimed at.

mod attach;
mod blast;
mod deny;
mod docker;
mod hosts;
mod peers;

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result, bail};

use crate::sh;

/// Options of `cargo xtask bench`.
#[derive(clap::Args)]
pub struct Options {
    /// `peers` where nothing is said
    #[command(subcommand)]
    what: Option<What>,
}

/// What is measured.
#[derive(clap::Subcommand)]
enum What {
    /// Milliseconds an attachment: one after the other, by 50 clients, and with 1,000 there; memory of the agent; Docker's beside it
    Attach,
    /// Drops per second: the deny list in XDP, the same list in iptables' raw table and in an nft set
    Deny(deny::Options),
    /// Nanoseconds a packet by BPF_PROG_TEST_RUN, over an empty program, with 10 to 100,000 published ports
    Datapath,
    /// Start, removal and memory of 500 published ports, connections a second with 1 and 10,000: Docker's own rules, and its networks taken over; how long a new port is open, and shut
    Docker(docker::Options),
    /// Answers about names a second and a core, and how late the latest are, beside dnsmasq and aardvark-dns
    Dns,
    /// CPU time of a scrape with 0 to 1,000 endpoints and published ports
    Metrics,
    /// Rates, connections, throughput and CPU beside Docker, netavark and the plain kernel, and the agent's own costs; fails where a target is missed
    Peers(peers::Options),
}

/// Measures.
pub fn run(options: &Options) -> Result<ExitCode> {
    if !nix::unistd::geteuid().is_root() {
        bail!(
            "measurements make network namespaces and load eBPF programs: run them as root \
             (`sudo -E env PATH=\"$PATH\" cargo xtask bench ...`)"
        );
    }
    match &options.what {
        Some(What::Attach) => attach::run(),
        Some(What::Deny(options)) => deny::run(options),
        Some(What::Datapath) => measure(&mut test("packet", "bench::datapath", &[])),
        Some(What::Docker(options)) => docker::run(options),
        Some(What::Dns) => dns(),
        Some(What::Peers(options)) => peers::run(options),
        None => peers::run(&peers::Options::default()),
        Some(What::Metrics) => measure(&mut test("bpf", "telemetry::bench_scrape", &["--release"])),
    }
}

/// The median, the smallest and the largest of some numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Spread {
    median: f64,
    least: f64,
    most: f64,
}

impl Spread {
    /// Of nothing it is zero.
    fn of(mut numbers: Vec<f64>) -> Self {
        numbers.sort_by(f64::total_cmp);
        let at = |index: usize| numbers.get(index).copied().unwrap_or_default();
        let last = numbers.len().saturating_sub(1);
        Self { median: (at(last / 2) + at(last.div_ceil(2))) / 2.0, least: at(0), most: at(last) }
    }
}

/// The command for a measurement that is a test: its layer has the harness, the maps or the programs at hand.
fn test(layer: &str, name: &str, options: &[&str]) -> Command {
    let mut command = sh::command("cargo");
    command.args(["test", "--package", "bascule-tests", "--test", layer]).args(options);
    command.args(["--", "--ignored", "--nocapture", "--exact", name]);
    command
}

/// When, and on what.
fn machine() -> Result<BTreeMap<String, String>> {
    let said = |program: &str, words: &[&str]| -> Result<String> {
        Ok(sh::output(sh::command(program).args(words))?.trim().to_owned())
    };
    let of = |file: &str, key: &str| -> Result<String> {
        let text = fs::read_to_string(file).with_context(|| format!("cannot read {file}"))?;
        let line = text.lines().find(|line| line.starts_with(key)).unwrap_or_default();
        Ok(line.split_once(':').map_or("", |(_, value)| value).trim().to_owned())
    };
    let processors = std::thread::available_parallelism().context("how many processors")?;
    let facts = [
        ("date", said("date", &["-u", "+%Y-%m-%d %H:%M UTC"])?),
        ("kernel", said("uname", &["-r"])?),
        ("cpu", of("/proc/cpuinfo", "model name")?),
        ("processors", processors.to_string()),
        ("memory", of("/proc/meminfo", "MemTotal")?),
        ("commit", said("git", &["describe", "--always", "--dirty"])?),
    ];
    Ok(facts.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

/// Where this run's results are kept: by date and kernel.
fn place(machine: &BTreeMap<String, String>) -> Result<PathBuf> {
    let of = |key: &str| machine.get(key).map_or("", String::as_str);
    let date = of("date").split(' ').next().unwrap_or_default();
    let kernel = of("kernel").split('-').next().unwrap_or_default();
    let directory = sh::root().join(format!("docs/benchmarks/{date}-linux-{kernel}"));
    fs::create_dir_all(&directory)
        .with_context(|| format!("cannot make {}", directory.display()))?;
    Ok(directory)
}

/// With the agent as it is released.
fn dns() -> Result<ExitCode> {
    sh::run(sh::command("cargo").args(["build", "--release", "--package", "bascule"]))?;
    let agent = sh::target_dir().join("release/bascule");
    measure(test("netns", "resolving::measure", &[]).env("BASCULE_BIN", agent))
}

fn measure(test: &mut Command) -> Result<ExitCode> {
    sh::run(test)?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        let spread = Spread::of(vec![3.0, 1.0, 2.0]);
        assert_eq!(spread, Spread { median: 2.0, least: 1.0, most: 3.0 });
        assert_eq!(Spread::of(vec![4.0, 1.0]).median, 2.5);
        assert_eq!(Spread::of(Vec::new()).median, 0.0);
    }
}
