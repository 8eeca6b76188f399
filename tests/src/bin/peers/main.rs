//! Bascule beside its peers, on the kernel that runs: what `cargo xtask bench peers` has measured.
//!
//! `peers measure FILE ROUNDS [quick]` makes a host for each system, measures in interleaved rounds and writes what it
//! found as JSON. `serve` and `client` are the two ends of the traffic, which it starts itself. What the numbers mean is
//! judged, and drawn, by who asked.

mod cpu;
mod host;
mod profile;
mod rounds;
mod targets;
mod traffic;
mod worlds;

use std::{
    io::Write as _,
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use nix::sys::signal::{SigSet, Signal};
use serde_json::{Value, json};

use crate::{rounds::Samples, targets::TARGETS, worlds::Worlds};

/// Somebody has asked for an end.
static STOP: AtomicBool = AtomicBool::new(false);

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let result = match words[..] {
        ["serve", port] => match port.parse() {
            Ok(port) => traffic::serve(port).map_err(|error| error.to_string()),
            Err(error) => Err(format!("port {port}: {error}")),
        },
        ["client"] => traffic::client().map_err(|error| error.to_string()),
        ["measure", file, rounds] => measure(file, rounds, false),
        ["measure", file, rounds, "quick"] => measure(file, rounds, true),
        _ => Err("it is `cargo xtask bench peers` that calls this".to_owned()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Tells whoever watches.
fn say(line: &str) {
    writeln!(std::io::stderr(), "    {line}").ok();
}

fn go_on() -> bool {
    !STOP.load(Ordering::Relaxed)
}

/// Has an interrupt end what goes on in good order, instead of this process.
fn listen_for_the_end() -> Result<(), String> {
    let ending = SigSet::from_iter([Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM]);
    // Threads that are made from here on have the same mask; children have none.
    ending.thread_block().map_err(|error| format!("cannot hold signals back: {error}"))?;
    thread::spawn(move || {
        while ending.wait().is_ok() {
            STOP.store(true, Ordering::Relaxed);
            say("ending; what was made is removed");
        }
    });
    Ok(())
}

fn measure(file: &str, rounds: &str, quick: bool) -> Result<(), String> {
    let rounds = rounds.parse().map_err(|error| format!("{rounds} rounds: {error}"))?;
    bascule_tests::require_root();
    listen_for_the_end()?;
    let host = host::run(quick, &go_on);
    say("hosts of all systems");
    let mut worlds = Worlds::new(&go_on);
    let samples = rounds::run(&mut worlds, rounds, &go_on)?;
    let profiles = profiles(&mut worlds, &samples);
    let notes = std::mem::take(&mut worlds.notes);
    drop(worlds);
    if !go_on() {
        return Err("ended before it was done".to_owned());
    }
    let results = json!({
        "rounds": samples.rounds,
        "load": {"packets": rounds::LOAD.0, "connections": rounds::LOAD.1},
        "notes": notes,
        "again": samples.again,
        "samples": samples.json(),
        "targets": TARGETS.iter().map(targets::Target::json).collect::<Value>(),
        "profiles": profiles,
        "host": host,
    });
    let text = serde_json::to_string(&results).map_err(|error| error.to_string())?;
    std::fs::write(file, text).map_err(|error| format!("cannot write {file}: {error}"))
}

/// Looks closer at what misses its target, and at what it is compared with.
fn profiles(worlds: &mut Worlds, samples: &Samples) -> Vec<Value> {
    let mut wanted = Vec::new();
    for target in TARGETS.iter().filter(|target| !target.is_met(samples)) {
        let what = if target.measure == rounds::UDP { "udp" } else { "crr" };
        for system in [target.system, target.base] {
            let one = (target.path, system, what);
            if !wanted.contains(&one) {
                wanted.push(one);
            }
        }
    }
    let mut profiles = Vec::new();
    for (path, system, what) in wanted {
        let cell = worlds.cells.iter_mut().find(|c| (c.path, c.system) == (path, system));
        if let Some(cell) = cell.filter(|_| go_on()) {
            say(&format!("a closer look at {system}, {path}, {what}"));
            match profile::take(cell, what) {
                Ok(profile) => profiles.push(profile),
                Err(error) => worlds.notes.push(format!("no closer look: {error}")),
            }
        }
    }
    profiles
}
