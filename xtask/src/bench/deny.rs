//! The deny list against the same list in netfilter: how many denied packets a second one CPU gets rid of.
//!
//! Each contender has a host of its own, so that nobody pays for another's programs, and all of them
//! take turns in every round. Frames come from addresses all over the list.

use std::{
    io::Write as _,
    process::{ExitCode, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use super::{
    Spread, blast,
    hosts::{HOST, Host, Lab},
};
use crate::{sh, ui};

/// Frames that are sent before anything is measured, to see how many fit a turn.
const WARM_UP: u32 = 1 << 15;
/// Where more than this share of the frames is lost on the way, because the receiver did not get its turn
/// on the CPU, the measurement is repeated, so many times at most.
const LOSS: f64 = 0.01;
const ATTEMPTS: usize = 20;

/// Options of `cargo xtask bench deny`.
#[derive(clap::Args)]
pub struct Options {
    /// Prefixes on the list
    #[arg(long, value_name = "N", value_delimiter = ',', default_values_t = [1, 100, 1_000])]
    prefixes: Vec<u32>,
    /// Rounds, in each of which every contender has a turn
    #[arg(long, value_name = "N", default_value_t = 9)]
    rounds: usize,
    /// Milliseconds of a turn
    #[arg(long, value_name = "MS", default_value_t = 400)]
    turn: u64,
}

/// Who drops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Contender {
    Xdp,
    Iptables,
    NftSet,
}

impl Contender {
    const ALL: [Self; 3] = [Self::Xdp, Self::Iptables, Self::NftSet];

    const fn label(self) -> &'static str {
        match self {
            Self::Xdp => "XDP",
            Self::Iptables => "iptables raw",
            Self::NftSet => "nft set, raw",
        }
    }

    const fn host(self) -> &'static str {
        match self {
            Self::Xdp => "xdp",
            Self::Iptables => "iptables",
            Self::NftSet => "nft",
        }
    }

    /// Puts a list in force, in place of the one before.
    fn set(self, lab: &Lab, host: &Host, list: &[String]) -> Result<()> {
        match self {
            Self::Xdp => {
                let old = sh::output(lab.bascule(host).args(["policy", "deny", "ls", "-q"]))?;
                if !old.is_empty() {
                    let mut remove = lab.bascule(host);
                    sh::quietly(remove.args(["policy", "deny", "rm"]).args(old.lines()))?;
                }
                sh::quietly(lab.bascule(host).args(["policy", "deny", "add"]).args(list))
            }
            Self::Iptables => {
                let rules: String = list
                    .iter()
                    .map(|prefix| format!("-A PREROUTING -s {prefix} -j DROP\n"))
                    .collect();
                feed(host, "iptables-restore", &[], &format!("*raw\n{rules}COMMIT\n"))
            }
            Self::NftSet => {
                let rules = format!(
                    "table ip deny\ndelete table ip deny\ntable ip deny {{\n\
                     set denied {{ type ipv4_addr; flags interval; elements = {{ {} }} }}\n\
                     chain from {{ type filter hook prerouting priority raw;\n\
                     ip saddr @denied counter drop\n}}\n}}\n",
                    list.join(", ")
                );
                feed(host, "nft", &["-f", "-"], &rules)
            }
        }
    }

    /// Packets that were dropped since the list is in force.
    fn dropped(self, lab: &Lab, host: &Host) -> Result<u64> {
        match self {
            Self::Xdp => {
                let mut list = lab.bascule(host);
                let text = sh::output(list.args(["policy", "deny", "ls", "--output", "json"]))?;
                let list: Vec<serde_json::Value> = serde_json::from_str(&text)?;
                Ok(list.iter().filter_map(|denial| denial["Packets"].as_u64()).sum())
            }
            Self::Iptables => {
                let mut list = host.command("iptables");
                let text = sh::output(list.args(["-t", "raw", "-nvxL", "PREROUTING"]))?;
                let count = |line: &str| line.split_whitespace().next()?.parse::<u64>().ok();
                Ok(text.lines().filter_map(count).sum())
            }
            Self::NftSet => {
                let text =
                    sh::output(host.command("nft").args(["list", "chain", "ip", "deny", "from"]))?;
                let count = text.split("counter packets ").nth(1);
                let count = count.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
                count.context("nft shows no counter")
            }
        }
    }
}

fn feed(host: &Host, program: &str, words: &[&str], text: &str) -> Result<()> {
    let mut command = host.command(program);
    let mut child = command
        .args(words)
        .stdin(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {program}"))?;
    child.stdin.take().context("no pipe")?.write_all(text.as_bytes())?;
    if !child.wait()?.success() {
        bail!("{program} refuses the list");
    }
    Ok(())
}

/// The prefix with this number.
fn prefix(number: u32) -> String {
    let [.., high, low] = number.to_be_bytes();
    format!("10.{high}.{low}.0/24")
}

/// Measures, and prints a table.
pub fn run(options: &Options) -> Result<ExitCode> {
    ui::step("build");
    sh::run(sh::command("cargo").args(["build", "--package", "bascule"]))?;
    let mut lab = Lab::new()?;
    let mut hosts = Vec::new();
    for contender in Contender::ALL {
        hosts.push((contender, lab.host(contender.host())?));
    }
    lab.start_agent(&hosts[0].1)?;
    introduce(&lab, &hosts[0].1, options)?;
    let mut faster = true;
    for &prefixes in &options.prefixes {
        let spreads = compare(&lab, &hosts, prefixes, options)?;
        faster &= spreads[0].median > spreads[1].median;
        let cells: String = spreads.iter().map(cell).collect();
        let factor = spreads[0].median / spreads[1].median;
        ui::line(&format!("{prefixes:>8}{cells}   {factor:.1}"));
    }
    if !faster {
        bail!("the deny list drops fewer packets than iptables");
    }
    Ok(ExitCode::SUCCESS)
}

fn introduce(lab: &Lab, host: &Host, options: &Options) -> Result<()> {
    let release = sh::output(sh::command("uname").arg("-r"))?;
    let iptables = sh::output(host.command("iptables").arg("-V"))?;
    let nft = sh::output(host.command("nft").arg("-v"))?;
    ui::step("denied packets that one CPU drops a second, in millions");
    ui::note(&format!(
        "Linux {}, {}, {}; veth, frames of 60 bytes from {} addresses all over the list",
        release.trim(),
        iptables.trim(),
        nft.trim(),
        blast::SOURCES
    ));
    ui::note(&format!(
        "median (least to most) of {} rounds of {} ms, all contenders in each round",
        options.rounds, options.turn
    ));
    // The mode shows once there is a list.
    Contender::Xdp.set(lab, host, &[prefix(0)])?;
    let status = sh::output(lab.bascule(host).arg("status"))?;
    let uplink = status.lines().find(|line| line.contains(super::hosts::UPLINK));
    if !uplink.is_some_and(|line| line.contains("native XDP")) {
        bail!("the list does not run in native XDP:\n{status}");
    }
    let titles: String =
        Contender::ALL.iter().map(|contender| format!("{:>26}", contender.label())).collect();
    ui::line(&format!("{:>8}{titles}   XDP / iptables", "prefixes"));
    Ok(())
}

fn cell(spread: &Spread) -> String {
    let Spread { median, least, most } = spread;
    let range = format!("({:.2} to {:.2})", least / 1e6, most / 1e6);
    format!("{:>9.2} {range:>16}", median / 1e6)
}

/// Rounds with lists of one length; rates by contender.
fn compare(
    lab: &Lab,
    hosts: &[(Contender, Host)],
    prefixes: u32,
    options: &Options,
) -> Result<Vec<Spread>> {
    let list: Vec<_> = (0..prefixes).map(prefix).collect();
    for (contender, host) in hosts {
        contender.set(lab, host, &list).with_context(|| contender.label())?;
    }
    let mut rates = vec![Vec::new(); hosts.len()];
    for _ in 0..options.rounds {
        for ((contender, host), rates) in hosts.iter().zip(&mut rates) {
            let time = Duration::from_millis(options.turn);
            rates.push(turn(lab, *contender, host, prefixes, time)?);
        }
    }
    Ok(rates.into_iter().map(Spread::of).collect())
}

/// One turn; drops a second.
fn turn(
    lab: &Lab,
    contender: Contender,
    host: &Host,
    prefixes: u32,
    time: Duration,
) -> Result<f64> {
    let frame = blast::frame(host.macs, HOST);
    let send = |times| {
        let send = || blast::Blaster::new(host.sender, prefixes)?.send(&frame, times);
        lab.at_sender(send)
    };
    let seconds = send(WARM_UP)?.as_secs_f64().max(1e-6);
    let times = (f64::from(WARM_UP) * time.as_secs_f64() / seconds) as u32;
    let times = times.max(WARM_UP);
    for _ in 0..ATTEMPTS {
        let before = contender.dropped(lab, host)?;
        let took = send(times)?;
        let dropped = contender.dropped(lab, host)?.saturating_sub(before);
        if (dropped as f64) > f64::from(times) * (1.0 - LOSS) {
            return Ok(dropped as f64 / took.as_secs_f64());
        }
    }
    bail!("{} loses frames before it looks at them: the machine is too busy", contender.label())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_those_that_frames_come_from() {
        assert_eq!(prefix(0), "10.0.0.0/24");
        assert_eq!(prefix(999), "10.3.231.0/24");
    }
}
