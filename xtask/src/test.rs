//! `cargo xtask test`: every layer of the tests, with the time each takes.
//!
//! `unit` needs nothing but the compiler, `fuzz` and `messages` some time more. `budget` loads the programs, `harness` tests what the other
//! layers stand on: test binaries of the package in `tests/`, found by their directories. They need root.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    process::{ExitCode, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{budget, fuzz, setup, sh, ui};

/// Options of `cargo xtask test`.
#[derive(clap::Args)]
pub struct Options {
    /// Layers to run; all of them by default
    layers: Vec<String>,
    /// The long form: more cases, more rounds
    #[arg(long)]
    full: bool,
    /// Only names of layers
    #[arg(long)]
    list: bool,
}

impl Options {
    /// One layer, in its short form.
    pub fn only(layer: &str) -> Self {
        Self { layers: vec![layer.to_owned()], full: false, list: false }
    }
}

/// Tells the tests that they may take their time.
const FULL: &str = "BASCULE_TEST_FULL";
/// Layers that cheap ones come first in; any other comes after these.
const ORDER: [&str; 14] = [
    "unit", "fuzz", "messages", "abi", "budget", "verifier", "packet", "harness", "kernel", "bpf",
    "netns", "agent", "docker", "adopt",
];
/// Layers that are not directories in `tests/tests`.
const BUILT_IN: [&str; 5] = ["unit", "fuzz", "messages", "budget", "harness"];
/// Layers that need no root.
const ROOTLESS: [&str; 3] = ["unit", "fuzz", "messages"];
/// Seconds that the walks are fuzzed for, and in the long form; messages about names half of it.
const FUZZ: (u64, u64) = (20, 600);

/// No layer takes longer, unless it hangs; four times that in the long form.
const LIMIT: Duration = Duration::from_secs(25 * 60);

/// How a layer went.
struct Report {
    layer: String,
    passed: usize,
    failed: usize,
    took: Duration,
}

/// Runs them, and says how it went.
pub fn run(options: &Options) -> Result<ExitCode> {
    let known = layers()?;
    if options.list {
        for layer in known {
            ui::line(&layer);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let chosen = choose(&known, &options.layers)?;
    let root = nix::unistd::geteuid().is_root();
    if let Some(layer) = chosen.iter().find(|layer| !ROOTLESS.contains(&layer.as_str()))
        && !root
    {
        bail!(
            "the layer `{layer}` makes network namespaces and loads eBPF programs: run this as root \
             (`sudo -E env PATH=\"$PATH\" cargo xtask test`), or `cargo xtask test unit` as you are"
        );
    }
    setup::ready()?;
    let since = Instant::now();
    build(&chosen)?;
    let built = since.elapsed();
    let mut reports = Vec::new();
    for layer in &chosen {
        ui::step(&format!("layer {layer}"));
        reports.push(layer_report(layer, options.full));
    }
    Ok(summary(built, &reports))
}

/// All layers, in the order in which they run.
fn layers() -> Result<Vec<String>> {
    let mut names: Vec<String> = BUILT_IN.map(str::to_owned).into();
    let dir = sh::root().join("tests/tests");
    if dir.is_dir() {
        for entry in fs::read_dir(&dir).with_context(|| format!("cannot read {}", dir.display()))? {
            let path = entry?.path();
            if path.join("main.rs").exists()
                && let Some(name) = path.file_name().and_then(|name| name.to_str())
            {
                names.push(name.to_owned());
            }
        }
    }
    names.sort_by_key(|name| {
        (ORDER.iter().position(|known| known == name).unwrap_or(ORDER.len()), name.clone())
    });
    Ok(names)
}

/// The layers asked for, in the order in which they run.
fn choose(known: &[String], asked: &[String]) -> Result<Vec<String>> {
    if let Some(unknown) = asked.iter().find(|name| !known.contains(name)) {
        bail!("there is no layer `{unknown}`; there are: {}", known.join(", "));
    }
    let wanted = |name: &&String| asked.is_empty() || asked.contains(name);
    Ok(known.iter().filter(wanted).cloned().collect())
}

/// Builds everything at once, so that a layer's time is that of its tests.
fn build(chosen: &[String]) -> Result<()> {
    ui::step("build (some minutes the first time)");
    let since = Instant::now();
    sh::run(sh::command("cargo").args(["build", "--package", "bascule"]))?;
    if chosen.iter().any(|layer| layer == "unit" || layer == "messages") {
        sh::run(sh::command("cargo").args(unit()).arg("--no-run"))?;
    }
    if chosen.iter().any(|layer| layer == "fuzz") {
        sh::run(&mut fuzz::build())?;
    }
    let rest = |layer: &String| layer != "budget" && !ROOTLESS.contains(&layer.as_str());
    if chosen.iter().any(rest) {
        sh::run(sh::command("cargo").args(["test", "--no-run", "--package", "bascule-tests"]))?;
    }
    ui::good(&ui::took(since.elapsed()));
    Ok(())
}

/// Arguments for what runs on the host alone.
fn unit() -> [&'static str; 6] {
    ["test", "--workspace", "--exclude", "bascule-tests", "--exclude", "bascule-ebpf"]
}

/// Runs a layer. A layer that cannot run counts as a failure, and the next one has its turn.
fn layer_report(layer: &str, full: bool) -> Report {
    let since = Instant::now();
    let (passed, failed) = match run_layer(layer, full) {
        Ok(counts) => counts,
        Err(error) => {
            ui::bad(&format!("{error:#}"));
            (0, 1)
        }
    };
    Report { layer: layer.to_owned(), passed, failed, took: since.elapsed() }
}

fn run_layer(layer: &str, full: bool) -> Result<(usize, usize)> {
    if layer == "budget" {
        let code = budget::run(&budget::Options::default())?;
        return Ok(if code == ExitCode::SUCCESS { (1, 0) } else { (0, 1) });
    }
    let mut command = sh::command("cargo");
    match layer {
        "unit" => command.args(unit()).arg("--no-fail-fast"),
        "fuzz" => {
            command = fuzz::command(if full { FUZZ.1 } else { FUZZ.0 });
            &mut command
        }
        "messages" => fuzz::messages(command.args(unit()), if full { FUZZ.1 } else { FUZZ.0 / 2 }),
        "harness" => command.args(["test", "--package", "bascule-tests", "--lib"]),
        layer => command.args(["test", "--package", "bascule-tests", "--test", layer]),
    };
    command.env("BASCULE_BIN", sh::target_dir().join("debug/bascule"));
    if full {
        command.env(FULL, "1");
    }
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run `{}`", sh::words(&command)))?;
    let watch = Watch::over(child.id(), if full { 4 * LIMIT } else { LIMIT });
    let (mut passed, mut failed) = (0, 0);
    if let Some(out) = child.stdout.take() {
        for line in BufReader::new(out).lines() {
            let line = line?;
            if let Some((good, bad)) = result(&line) {
                passed += good;
                failed += bad;
            }
            if !is_noise(&line) {
                ui::line(&line);
            }
        }
    }
    let status = child.wait()?;
    if watch.done() {
        ui::bad(&format!("the layer was ended: it hung, or took longer than {}", ui::took(LIMIT)));
        failed += 1;
    }
    // A binary that dies without a result, or does not build, is one failure more than it counted.
    if !status.success() && failed == 0 {
        ui::bad(&format!("`{}` ended with {status}", sh::words(&command)));
        failed = 1;
    }
    Ok((passed, failed))
}

/// Ends a layer that hangs, with everything that it has started.
struct Watch {
    done: mpsc::Sender<()>,
    thread: thread::JoinHandle<bool>,
}

impl Watch {
    fn over(child: u32, limit: Duration) -> Self {
        let (done, told) = mpsc::channel();
        let thread = thread::spawn(move || {
            let late = told.recv_timeout(limit) == Err(mpsc::RecvTimeoutError::Timeout);
            if late {
                for pid in descendants(child) {
                    // It may have ended in this moment; then there is nothing to kill.
                    let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
                }
            }
            late
        });
        Self { done, thread }
    }

    /// Ends the watch; says whether it had to act.
    fn done(self) -> bool {
        drop(self.done);
        self.thread.join().unwrap_or(false)
    }
}

/// A process and all that descend from it, parents first.
fn descendants(root: u32) -> Vec<i32> {
    let mut found = Vec::from_iter(i32::try_from(root));
    let mut at = 0;
    while let Some(pid) = found.get(at).copied() {
        at += 1;
        for thread in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
            let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            found.extend(children.split_whitespace().filter_map(|pid| pid.parse::<i32>().ok()));
        }
    }
    found
}

/// The counts in a line such as `test result: ok. 3 passed; 0 failed; 1 ignored; ...`.
fn result(line: &str) -> Option<(usize, usize)> {
    let counts = line.strip_prefix("test result: ")?.split_once(". ")?.1;
    let count = |what: &str| {
        counts.split("; ").find_map(|part| part.strip_suffix(what)?.trim().parse().ok())
    };
    Some((count("passed")?, count("failed")?))
}

/// What a test binary says even when it has nothing to say.
fn is_noise(line: &str) -> bool {
    line.is_empty() || line == "running 0 tests" || line.contains(" 0 passed; 0 failed; 0 ignored")
}

fn summary(built: Duration, reports: &[Report]) -> ExitCode {
    ui::step("summary");
    ui::line(&format!("    {:<12} {:>7} {:>7} {:>12}", "layer", "passed", "failed", "time"));
    ui::line(&format!("    {:<12} {:>7} {:>7} {:>12}", "(build)", "", "", ui::took(built)));
    for report in reports {
        let Report { layer, passed, failed, took } = report;
        ui::line(&format!("    {layer:<12} {passed:>7} {failed:>7} {:>12}", ui::took(*took)));
    }
    let passed: usize = reports.iter().map(|report| report.passed).sum();
    let failed: usize = reports.iter().map(|report| report.failed).sum();
    ui::line(&format!("{passed} passed, {failed} failed"));
    if failed == 0 && passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_counted_and_other_lines_are_not() {
        let line = "test result: FAILED. 3 passed; 2 failed; 1 ignored; 0 measured; 0 filtered out";
        assert_eq!(result(line), Some((3, 2)));
        assert_eq!(result("test s1_networks ... ok"), None);
    }

    #[test]
    fn what_hangs_is_ended_with_what_it_started() {
        let mut child = std::process::Command::new("sh")
            .args(["-c", "sleep 60 >/dev/null 2>&1 & echo $!; wait"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell");
        let mut line = String::new();
        let out = child.stdout.take().expect("a pipe");
        BufReader::new(out).read_line(&mut line).expect("the number of its child");
        let watch = Watch::over(child.id(), Duration::ZERO);
        assert!(!child.wait().expect("it is gone").success());
        assert!(watch.done(), "it had to act");
        let sleeper = format!("/proc/{}/stat", line.trim());
        let since = Instant::now();
        // Its adoptive parent may take its time to notice its death.
        while fs::read_to_string(&sleeper).is_ok_and(|stat| !stat.contains(") Z")) {
            assert!(since.elapsed() < Duration::from_secs(10), "the sleeper lives");
            thread::yield_now();
        }
    }

    #[test]
    fn a_layer_that_does_not_exist_is_refused_with_those_that_do() {
        let known = ["unit".to_owned(), "netns".to_owned()];
        let error = choose(&known, &["nets".to_owned()]).expect_err("no such layer");
        assert!(error.to_string().contains("unit, netns"), "{error}");
        assert_eq!(choose(&known, &["netns".to_owned()]).expect("a layer"), ["netns"]);
        assert_eq!(choose(&known, &[]).expect("all"), known);
    }
}
