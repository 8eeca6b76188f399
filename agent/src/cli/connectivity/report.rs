//! How it went: lines as it goes on, and a summary, or all of it as JSON.

use std::{
    io::{self, IsTerminal as _},
    time::Duration,
};

use serde::Serialize;

use super::{
    super::{args::Family, output},
    plan::Case,
};

/// What became of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is as it should be.
    Ok,
    /// It is not.
    Failed(Trouble),
    /// It cannot be tried here, and why.
    Skipped(String),
}

/// What is wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trouble {
    /// What was tried.
    pub tried: String,
    /// What was seen.
    pub seen: String,
    /// What `bascule why` says of such a packet.
    pub hint: String,
}

/// A case that was tried, as JSON has it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct CaseReport {
    /// What it is called.
    pub name: String,
    /// `IPv4`, `IPv6`, or empty where it has none.
    pub family: &'static str,
    /// `ok`, `failed` or `skipped`.
    pub outcome: &'static str,
    /// Why it was skipped.
    pub reason: String,
    /// What was tried, where it failed.
    pub tried: String,
    /// What was seen then.
    pub seen: String,
    /// What `bascule why` says of that packet.
    pub hint: String,
    /// How long it took.
    pub seconds: f64,
}

impl CaseReport {
    /// Writes down what became of a case.
    pub fn new(case: &Case, outcome: Outcome, took: Duration) -> Self {
        let mut report = Self {
            name: case.name.clone(),
            family: case.family.map_or("", family_name),
            outcome: "ok",
            seconds: took.as_secs_f64(),
            ..Self::default()
        };
        match outcome {
            Outcome::Ok => {}
            Outcome::Skipped(reason) => (report.outcome, report.reason) = ("skipped", reason),
            Outcome::Failed(Trouble { tried, seen, hint }) => {
                report.outcome = "failed";
                (report.tried, report.seen, report.hint) = (tried, seen, hint);
            }
        }
        report
    }

    /// Returns the lines of it.
    fn text(&self) -> String {
        let head = format!("{:<8} {}", self.outcome, label(&self.name, self.family));
        match self.outcome {
            "skipped" => format!("{head}  {}", self.reason),
            "failed" => {
                let told = [("tried", &self.tried), ("seen", &self.seen), ("why", &self.hint)];
                let told = told.into_iter().filter(|(_, text)| !text.is_empty());
                let lines = told.map(|(title, text)| format!("\n           {title:<6} {text}"));
                format!("{head}  {}{}", time(self.seconds), lines.collect::<String>())
            }
            _ => format!("{head}  {}", time(self.seconds)),
        }
    }
}

/// Returns what a family is called.
pub fn family_name(family: Family) -> &'static str {
    match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    }
}

fn label(name: &str, family: &str) -> String {
    format!("{family:<5} {name:<44}")
}

fn time(seconds: f64) -> String {
    if seconds < 1.0 { format!("{:.1} ms", seconds * 1000.0) } else { format!("{seconds:.1} s") }
}

/// How it went, as JSON has it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Report {
    /// What this test's networks and containers had in their names.
    pub run: String,
    /// Cases that are as they should be.
    pub passed: usize,
    /// Cases that are not.
    pub failed: usize,
    /// Cases that could not be tried.
    pub skipped: usize,
    /// How long it took.
    pub seconds: f64,
    /// What an earlier test that was killed had left, and is gone.
    pub removed: Vec<String>,
    /// The cases, in order.
    pub cases: Vec<CaseReport>,
}

impl Report {
    /// Adds a case.
    pub fn add(&mut self, case: CaseReport) {
        match case.outcome {
            "ok" => self.passed += 1,
            "skipped" => self.skipped += 1,
            _ => self.failed += 1,
        }
        self.cases.push(case);
    }

    /// Returns the last line.
    pub fn summary(&self) -> String {
        let Self { passed, failed, skipped, seconds, .. } = self;
        format!("\n{passed} ok, {failed} failed, {skipped} skipped in {}", time(*seconds))
    }
}

/// Tells how it goes on. Where JSON is wanted, nothing is told but on a terminal, beside it.
#[derive(Debug)]
pub struct Progress {
    json: bool,
    live: bool,
}

impl Progress {
    /// Begins to tell.
    pub fn new(json: bool) -> Self {
        let live = if json { io::stderr().is_terminal() } else { io::stdout().is_terminal() };
        Self { json, live }
    }

    /// Tells what an earlier test had left.
    pub fn removed(&self, names: &[String]) -> io::Result<()> {
        match names {
            [] => Ok(()),
            names => self.say(format!("removed what an earlier test left: {}\n", names.join(", "))),
        }
    }

    /// Tells what is tried now, where the line can be written over afterwards.
    pub fn begin(&self, case: &Case) -> io::Result<()> {
        let family = case.family.map_or("", family_name);
        let text = || format!("         {}", label(&case.name, family).trim_end());
        if self.live { self.say(text()) } else { Ok(()) }
    }

    /// Tells what became of it.
    pub fn end(&self, case: &CaseReport) -> io::Result<()> {
        // Back to the beginning of the line, and nothing left on it.
        let over = if self.live { "\r\x1b[K" } else { "" };
        self.say(format!("{over}{}\n", case.text()))
    }

    fn say(&self, text: String) -> io::Result<()> {
        use io::Write as _;
        match self.json {
            false => output::print(&text),
            true if self.live => io::stderr().lock().write_all(text.as_bytes()),
            true => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::connectivity::plan;

    #[test]
    fn p94_cases_are_told_with_time_reason_or_trouble() {
        let cases = plan::cases(None, &[]);
        let took = Duration::from_micros(1_240);
        let mut report = Report::default();
        let trouble = Trouble {
            tried: "TCP from bascule-test-0a-client to 172.18.0.2:8080".into(),
            seen: "no answer came".into(),
            hint: "Dropped. policy_icc: ICC is off.".into(),
        };
        report.add(CaseReport::new(&cases[0], Outcome::Ok, took));
        report.add(CaseReport::new(&cases[0], Outcome::Failed(trouble), took * 1_000));
        let skipped = Outcome::Skipped("the host has no IPv6".into());
        report.add(CaseReport::new(&cases[20], skipped, took));
        let lines: Vec<_> = report.cases.iter().map(CaseReport::text).collect();
        let golden = "\
ok       IPv4  TCP on a network                              1.2 ms
failed   IPv4  TCP on a network                              1.2 s
           tried  TCP from bascule-test-0a-client to 172.18.0.2:8080
           seen   no answer came
           why    Dropped. policy_icc: ICC is off.
skipped  IPv6  ping on a network                             the host has no IPv6";
        assert_eq!(lines.join("\n"), golden);
        assert_eq!(report.summary(), "\n1 ok, 1 failed, 1 skipped in 0.0 ms");
    }
}
