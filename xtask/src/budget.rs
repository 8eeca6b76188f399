//! `cargo xtask budget`: what the programs cost the verifier and the kernel, against what was agreed.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use crate::{
    build_ebpf,
    loader::{self, Measured},
    sh, ui,
};

/// Options of `cargo xtask budget`.
#[derive(clap::Args, Default)]
pub struct Options {
    /// Write down what is measured as the new budget
    #[arg(long)]
    record: bool,
    /// Measure this object instead of building one
    #[arg(long, value_name = "PATH")]
    object: Option<PathBuf>,
}

/// Growth that passes: compilers of one version differ by less.
const HEADROOM_PERCENT: u32 = 5;

const HEADER: &str = "\
# What each eBPF program may cost, as measured by `cargo xtask budget --record`. Growth past 5 % fails.
# verified: instructions walked by the verifier over all paths. xlated, jited: bytes in the kernel.
# stack: bytes over the deepest chain of calls, of the 512 that there are.

";

/// The recorded costs of one program.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Cost {
    verified: u32,
    xlated: u32,
    jited: u32,
    stack: u32,
}

impl From<&Measured> for Cost {
    fn from(measured: &Measured) -> Self {
        Self {
            verified: measured.verified,
            xlated: measured.xlated,
            jited: measured.jited,
            stack: measured.stack,
        }
    }
}

/// Measures, prints and compares.
pub fn run(options: &Options) -> Result<ExitCode> {
    if !nix::unistd::geteuid().is_root() {
        bail!("only root may load eBPF programs: run this as root");
    }
    let object = match &options.object {
        Some(path) => path.clone(),
        None => build_ebpf::build()?,
    };
    let bytes = fs::read(&object).with_context(|| format!("cannot read {}", object.display()))?;
    let measured = loader::measure(&bytes)?;
    print(&measured);
    let path = sh::root().join("xtask/budget.toml");
    if options.record {
        record(&path, &measured)?;
        ui::good(&format!("recorded in {}", path.display()));
        return Ok(ExitCode::SUCCESS);
    }
    let text =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let budget: BTreeMap<String, Cost> =
        toml::from_str(&text).with_context(|| format!("{} is not understood", path.display()))?;
    let excess = compare(&budget, &measured);
    for fault in &excess {
        ui::bad(fault);
    }
    if excess.is_empty() {
        ui::good("within the budget");
        Ok(ExitCode::SUCCESS)
    } else {
        ui::note("if the growth is worth it, `cargo xtask budget --record` writes it down");
        Ok(ExitCode::FAILURE)
    }
}

fn print(measured: &[Measured]) {
    ui::line(&format!(
        "{:<16} {:>10} {:>10} {:>10} {:>10} {:>9}",
        "program", "verified", "xlated B", "jited B", "stack B", "load"
    ));
    for program in measured {
        ui::line(&format!(
            "{:<16} {:>10} {:>10} {:>10} {:>10} {:>6.1} ms",
            program.name,
            program.verified,
            program.xlated,
            program.jited,
            program.stack,
            program.load.as_secs_f64() * 1000.0
        ));
    }
}

fn record(path: &Path, measured: &[Measured]) -> Result<()> {
    let costs: BTreeMap<&str, Cost> =
        measured.iter().map(|program| (program.name.as_str(), Cost::from(program))).collect();
    let text = format!("{HEADER}{}", toml::to_string(&costs)?);
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// Everything that is past its budget.
fn compare(budget: &BTreeMap<String, Cost>, measured: &[Measured]) -> Vec<String> {
    let mut excess = Vec::new();
    for program in measured {
        let cost = Cost::from(program);
        let Some(agreed) = budget.get(&program.name) else {
            excess.push(format!("{}: has no budget", program.name));
            continue;
        };
        for (what, has, may) in [
            ("verified instructions", cost.verified, agreed.verified),
            ("xlated bytes", cost.xlated, agreed.xlated),
            ("jited bytes", cost.jited, agreed.jited),
            ("bytes of stack", cost.stack, agreed.stack),
        ] {
            if u64::from(has) * 100 > u64::from(may) * u64::from(100 + HEADROOM_PERCENT) {
                excess.push(format!("{}: {has} {what}, budget {may}", program.name));
            }
        }
    }
    for name in budget.keys().filter(|name| !measured.iter().any(|program| program.name == **name))
    {
        excess.push(format!("{name}: has a budget, but is not in the object"));
    }
    excess
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn measured(verified: u32, stack: u32) -> Measured {
        let name = "from_container".to_owned();
        Measured { name, verified, xlated: 800, jited: 500, stack, load: Duration::ZERO }
    }

    fn budget(of: &Measured) -> BTreeMap<String, Cost> {
        BTreeMap::from([(of.name.clone(), Cost::from(of))])
    }

    #[test]
    fn growth_within_the_headroom_passes_and_beyond_it_fails() {
        let budget = budget(&measured(1000, 128));
        assert!(compare(&budget, &[measured(1050, 128)]).is_empty());
        assert_eq!(compare(&budget, &[measured(1051, 128)]).len(), 1);
        assert!(compare(&budget, &[measured(10, 0)]).is_empty());
    }

    #[test]
    fn programs_without_a_budget_and_budgets_without_a_program_fail() {
        let one = measured(1000, 0);
        assert_eq!(compare(&BTreeMap::new(), std::slice::from_ref(&one)).len(), 1);
        assert_eq!(compare(&budget(&one), &[]).len(), 1);
    }
}
