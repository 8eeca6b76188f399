//! Where the time goes: what our programs take, soft interrupts, and the kernel's functions by `perf`, if it is there.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Command, Stdio},
};

use aya::programs::loaded_programs;
use bascule_tests::{places, process};
use serde_json::{Value, json};

use crate::worlds::Cell;

/// Milliseconds that are looked at.
const TIME: u64 = 600;
/// Lines of perf's list.
const FUNCTIONS: usize = 14;

/// Looks at a system while it does something.
pub fn take(cell: &mut Cell, what: &str) -> Result<Value, String> {
    let stats = aya::sys::enable_stats(aya::sys::Stats::RunTime).map_err(|e| e.to_string())?;
    let (programs, interrupts) = (programs(), soft_interrupts());
    let done = cell.run(what, TIME, 0)?;
    let ran = difference(&programs, &self::programs());
    let interrupted = soft_interrupts();
    drop(stats);
    let interrupts: BTreeMap<_, _> = interrupted
        .iter()
        .map(|(name, count)| (name.clone(), count - interrupts.get(name).unwrap_or(&0)))
        .filter(|(_, count)| *count > 0)
        .collect();
    Ok(json!({
        "path": cell.path,
        "system": cell.system,
        "what": what,
        "count": done.count,
        "seconds": done.seconds,
        "programs": ran,
        "soft_interrupts": interrupts,
        "functions": functions(cell, what)?,
    }))
}

type Runs = BTreeMap<u32, (String, u64, u64)>;

/// Runs and nanoseconds of every program that the kernel has.
fn programs() -> Runs {
    let programs = loaded_programs().flatten();
    let one = |info: aya::programs::ProgramInfo| {
        let name = info.name_as_str().unwrap_or_default().to_owned();
        let time = u64::try_from(info.run_time().as_nanos()).unwrap_or(u64::MAX);
        (info.id(), (name, info.run_count(), time))
    };
    programs.map(one).collect()
}

fn difference(before: &Runs, after: &Runs) -> Vec<Value> {
    let one = |(id, (name, runs, time)): (&u32, &(String, u64, u64))| {
        let (_, runs_before, time_before) = before.get(id)?;
        let (runs, time) = (runs - runs_before, time - time_before);
        let each = time as f64 / runs as f64;
        (runs > 100).then(|| json!({"program": name, "runs": runs, "ns_a_run": each}))
    };
    after.iter().filter_map(one).collect()
}

/// How often each kind happened, on all processors.
fn soft_interrupts() -> BTreeMap<String, u64> {
    let text = fs::read_to_string("/proc/softirqs").unwrap_or_default();
    let one = |line: &str| {
        let (name, counts) = line.split_once(':')?;
        let counts = counts.split_whitespace().filter_map(|count| count.parse::<u64>().ok());
        Some((name.trim().to_owned(), counts.sum()))
    };
    text.lines().filter_map(one).collect()
}

/// The functions that take most, in percent of all processors.
fn functions(cell: &mut Cell, what: &str) -> Result<Vec<String>, String> {
    let files = places::directory();
    let data = files.path().join("perf.data");
    let mut record = Command::new("perf");
    record.args(["record", "-a", "-e", "cpu-clock", "-F", "1999", "-o"]).arg(&data);
    record.args(["--", "sleep", "1.5"]).stdout(Stdio::null()).stderr(Stdio::null());
    process::dies_with_us(&mut record);
    let Ok(mut recording) = record.spawn() else {
        return Ok(vec!["perf is not installed".to_owned()]);
    };
    let done = cell.run(what, 1_800, 0);
    recording.wait().ok();
    done?;
    Ok(report(&data))
}

fn report(data: &Path) -> Vec<String> {
    let mut report = Command::new("perf");
    report.args(["report", "--stdio", "--no-children", "--sort", "symbol", "-i"]).arg(data);
    let out = process::run(&mut report, process::LIMIT);
    let lines = out.stdout.lines().map(str::trim);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    let lines = lines.map(|line| line.trim_end_matches(['-', ' ']));
    lines
        .take(FUNCTIONS)
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect()
}
