//! What publishing costs with Docker's own rules and proxies, and when its networks are taken over: the measurement is a
//! test of the layer that has a real dockerd at hand; here its figures become a page.

use std::{collections::BTreeMap, fmt::Write as _, fs, process::ExitCode};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::{Spread, machine, place};
use crate::{sh, ui};

/// The ways of publishing, in the order of the page's columns.
const WAYS: [&str; 3] = ["Docker", "Docker without proxies", "adopted"];

/// Options of `cargo xtask bench docker`.
#[derive(clap::Args)]
pub struct Options {
    /// Ports that are published where there are many
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u16).range(2..=50_000))]
    ports: u16,
    /// Writes the figures into docs/benchmarks
    #[arg(long)]
    record: bool,
}

/// What was measured of one way, as the test says it.
#[derive(Serialize, Deserialize)]
struct Figure {
    way: String,
    measure: String,
    unit: String,
    values: Vec<f64>,
}

/// Measures, and shows it.
pub fn run(options: &Options) -> Result<ExitCode> {
    sh::run(sh::command("cargo").args(["build", "--release", "--package", "bascule"]))?;
    let file = sh::target_dir().join("bench-docker.json");
    let mut test = super::test("adopt", "bench::docker", &[]);
    test.env("BASCULE_BIN", sh::target_dir().join("release/bascule"))
        .env("BASCULE_BENCH_PORTS", options.ports.to_string())
        .env("BASCULE_BENCH_FILE", &file);
    sh::run(&mut test)?;
    let text = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let figures: Vec<Figure> = serde_json::from_slice(&text)
        .with_context(|| format!("{} is not understood", file.display()))?;
    let machine = machine()?;
    let page = page(&machine, &figures);
    ui::line(&page);
    if options.record {
        let directory = place(&machine)?;
        let put = |name: &str, text: &str| {
            let path = directory.join(name);
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
        };
        put("docker.md", &page)?;
        put("docker.json", &(serde_json::to_string_pretty(&figures)? + "\n"))?;
        ui::note(&directory.display().to_string());
    }
    Ok(ExitCode::SUCCESS)
}

/// The figures for people.
fn page(machine: &BTreeMap<String, String>, figures: &[Figure]) -> String {
    let mut page = String::from(
        "# Docker's own rules and proxies, and its networks adopted\n\n\
         One dockerd, run in three ways one after the other: as it is, with `userland-proxy: false`, and adopted. The \
         agent's build is a release. Where there are many ports, Docker's are the rules that it would write for them, \
         loaded at once, half of them before the rules of the port that is asked: dockerd itself takes many minutes for \
         so many. Adopted, they are really published. Of several values: the median, the smallest and the largest.\n\n",
    );
    for (key, value) in machine {
        writeln!(page, "- {key}: {value}").ok();
    }
    writeln!(page, "\n| | {} |\n|---|{}", WAYS.join(" | "), "---|".repeat(WAYS.len())).ok();
    let mut measures: Vec<&str> = Vec::new();
    for figure in figures {
        if !measures.contains(&figure.measure.as_str()) {
            measures.push(&figure.measure);
        }
    }
    for measure in measures {
        let cells = WAYS.map(|way| {
            let found = figures.iter().find(|f| f.way == way && f.measure == measure);
            found.map(cell).unwrap_or_default()
        });
        writeln!(page, "| {measure} | {} |", cells.join(" | ")).ok();
    }
    page
}

fn cell(figure: &Figure) -> String {
    let spread = Spread::of(figure.values.clone());
    let number = |value: f64| {
        if value.abs() < 100.0 && value.fract() != 0.0 {
            format!("{value:.2}")
        } else {
            format!("{value:.0}")
        }
    };
    let unit = if figure.unit.is_empty() { String::new() } else { format!(" {}", figure.unit) };
    let middle = format!("{}{unit}", number(spread.median));
    if figure.values.len() < 2 {
        return middle;
    }
    format!("{middle} ({} to {})", number(spread.least), number(spread.most))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_stand_in_the_column_of_their_way() {
        let figure = |way: &str, values: &[f64]| Figure {
            way: way.into(),
            measure: "start".into(),
            unit: "s".into(),
            values: values.into(),
        };
        let page = page(
            &BTreeMap::new(),
            &[figure("adopted", &[0.25]), figure("Docker", &[3.0, 1.0, 2.5])],
        );
        assert!(page.contains("| start | 2.50 s (1 to 3) |  | 0.25 s |"), "{page}");
    }
}
