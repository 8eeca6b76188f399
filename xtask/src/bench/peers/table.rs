//! The results for people: one page of Markdown.

use std::fmt::Write as _;

use super::{
    judge::Verdict,
    plot,
    results::{Middle, Profile, Publish, Results},
};

/// Systems: as results name them, and as readers know them.
const SYSTEMS: [(&str, &str); 11] = [
    ("direct", "direct veth pair"),
    ("bridge", "Linux bridge"),
    ("routed", "routing without NAT"),
    ("docker", "Docker, iptables"),
    ("docker-1000", "Docker's rules, 1,000 ports"),
    ("docker-10000", "Docker's rules, 10,000 ports"),
    ("netavark", "Podman's netavark"),
    ("bascule", "Bascule"),
    ("bascule-10000", "Bascule, 10,000 ports"),
    ("bascule-100000", "Bascule, 100,000 ports"),
    ("bascule-address", "the container's own address"),
];

/// Measures: as results name them, and as readers know them.
const MEASURES: [(&str, &str); 7] = [
    ("udp packets/s", "UDP packets/s"),
    ("tcp connections/s", "TCP connections/s"),
    ("tcp round trips/s", "TCP round trips/s"),
    ("tcp 1 flow Gbit/s", "TCP, 1 flow, Gbit/s"),
    ("tcp 8 flows Gbit/s", "TCP, 8 flows, Gbit/s"),
    ("cpu ns/packet", "CPU ns/packet"),
    ("cpu ns/connection", "CPU µs/connection"),
];

/// What readers call a system.
pub fn label(system: &str) -> &str {
    SYSTEMS.iter().find(|(name, _)| *name == system).map_or(system, |(_, label)| label)
}

/// What readers call a measure.
pub fn measure(measure: &str) -> &str {
    MEASURES.iter().find(|(name, _)| *name == measure).map_or(measure, |(_, label)| label)
}

/// A number the way readers take it in.
pub fn number(measure: &str, value: f64) -> String {
    match measure {
        "udp packets/s" => format!("{:.0}k", value / 1e3),
        "tcp connections/s" | "tcp round trips/s" => format!("{:.1}k", value / 1e3),
        "cpu ns/connection" => format!("{:.1}", value / 1e3),
        "cpu ns/packet" => format!("{value:.0}"),
        _ => format!("{value:.1}"),
    }
}

/// The whole page.
pub fn page(results: &Results, verdicts: &[Verdict]) -> String {
    let mut page = String::new();
    head(&mut page, results);
    targets(&mut page, verdicts);
    for path in results.distinct(|sample| Some(&sample.path)) {
        writeln!(page, "\n## {}\n", capital(path)).ok();
        page.push_str(&matrix(results, path));
    }
    page.push_str("\n## Plots\n\n");
    for name in results.distinct(|sample| Some(&sample.measure)) {
        writeln!(page, "![{}]({})\n", measure(name), plot::file(name)).ok();
    }
    agent(&mut page, results);
    walks(&mut page, results);
    if !results.profiles.is_empty() {
        page.push_str("\n## A closer look at what missed its target\n");
        results.profiles.iter().for_each(|one| profile(&mut page, one));
    }
    page
}

fn head(page: &mut String, results: &Results) {
    let of = |key: &str| results.machine.get(key).map_or("", String::as_str);
    writeln!(page, "# Bascule beside its peers, {}\n", of("date")).ok();
    writeln!(
        page,
        "Linux {}, {}, {} processors, {} of memory; commit {}. Made by `cargo xtask bench peers`.\n",
        of("kernel"),
        of("cpu"),
        of("processors"),
        of("memory"),
        of("commit")
    )
    .ok();
    writeln!(
        page,
        "Medians of {} rounds with their 95 % interval by order statistics. Every round measures each system on each path \
         in turn: compare within a run, not between runs. Clients are pinned to one processor and servers to another; all hosts, containers \
         and outsides are network namespaces of one kernel. UDP is datagrams of 64 bytes that arrive at \
         the server's socket; a connection is opened, carries one byte each way and is closed; a round trip is one byte \
         each way. CPU is what all processors spend at {} packets or {} connections a second (or as many as there \
         are, where the system cannot), by what spinners of the lowest priority are kept from.\n",
        results.rounds, results.load.packets, results.load.connections
    )
    .ok();
    for note in &results.notes {
        writeln!(page, "- {note}.").ok();
    }
    let again = results.again.len();
    if again > 0 {
        writeln!(
            page,
            "- {again} samples failed, and were taken again; the first: {}.",
            results.again[0]
        )
        .ok();
    }
}

fn targets(page: &mut String, verdicts: &[Verdict]) {
    page.push_str("\n## Targets\n\n| aim | measured | |\n|---|---|---|\n");
    for Verdict { aim, measured, outcome } in verdicts {
        writeln!(page, "| {aim} | {measured} | {} |", outcome.word()).ok();
    }
}

/// A path: systems down, measures across.
pub fn matrix(results: &Results, path: &str) -> String {
    let here = |sample: &super::results::Sample| sample.path == path;
    let systems = results.distinct(|sample| here(sample).then_some(sample.system.as_str()));
    let measures = results.distinct(|sample| Some(&sample.measure));
    let titles: Vec<_> = measures.iter().map(|name| measure(name)).collect();
    let mut text = format!("| | {} |\n|---|{}\n", titles.join(" | "), "---:|".repeat(titles.len()));
    for system in systems {
        let cell = |name: &&str| {
            let Middle { median, low, high } = Middle::of(results.of(name, path, system));
            let [median, low, high] = [median, low, high].map(|value| number(name, value));
            format!("{median} [{low}, {high}]")
        };
        let cells: Vec<_> = measures.iter().map(cell).collect();
        writeln!(text, "| {} | {} |", label(system), cells.join(" | ")).ok();
    }
    text
}

fn agent(page: &mut String, results: &Results) {
    let host = &results.host;
    page.push_str("\n## The agent\n\n| | |\n|---|---:|\n");
    let publish = |page: &mut String, who: &str, one: &Publish| {
        let (ms, mib) = (Middle::of(&one.ms), Middle::of(&one.mib));
        let Middle { median, low, high } = ms;
        let processes = match one.processes {
            0 => String::new(),
            count => format!(" in {count} processes"),
        };
        writeln!(
            page,
            "| {who}: publishing {} ports in one range | {median:.1} ms [{low:.1}, {high:.1}], {:.2} MiB{processes} |",
            one.ports, mib.median
        )
        .ok();
    };
    host.publish.iter().for_each(|one| publish(page, "Bascule", one));
    host.publish_docker.iter().for_each(|one| publish(page, "Docker", one));
    let mut attach = host.attach_ms.clone();
    attach.sort_by(f64::total_cmp);
    if let Some(most) = attach.get(attach.len().saturating_mul(99) / 100) {
        let median = Middle::of(&attach).median;
        writeln!(page, "| attaching up to 1,000 endpoints, one after the other | median {median:.1} ms, 99 % within {most:.1} ms |")
            .ok();
    }
    for idle in &host.idle {
        let row =
            format!("agent with {} endpoints, 20 s after the last was attached", idle.endpoints);
        writeln!(
            page,
            "| {row} | {:.3} % of a processor, {:.1} MiB ({:.1} MiB without files) |",
            idle.cpu_percent, idle.mib, idle.mib_own
        )
        .ok();
    }
    if !host.scrape_ms.is_empty() {
        let Middle { median, low, high } = Middle::of(&host.scrape_ms);
        writeln!(
            page,
            "| a scrape of 1,000 endpoints | {median:.1} ms of processors [{low:.1}, {high:.1}] |"
        )
        .ok();
    }
    if !host.restart_s.is_empty() {
        let Middle { median, low, high } = Middle::of(&host.restart_s);
        writeln!(page, "| ready again with 1,000 endpoints, after being killed | {median:.2} s [{low:.2}, {high:.2}] |")
            .ok();
    }
}

fn walks(page: &mut String, results: &Results) {
    if results.walks.is_empty() {
        return;
    }
    page.push_str("\n## Walks\n\nNanoseconds a packet by `BPF_PROG_TEST_RUN`, over a program that does nothing.\n\n");
    page.push_str("| | published ports | ns |\n|---|---:|---:|\n");
    for walk in &results.walks {
        let Middle { median, low, high } = Middle::of(&walk.ns);
        writeln!(page, "| {} | {} | {median:.1} [{low:.1}, {high:.1}] |", walk.walk, walk.ports)
            .ok();
    }
}

fn profile(page: &mut String, one: &Profile) {
    let system = label(&one.system);
    writeln!(page, "\n### {}: {system}, {}\n", capital(&one.path), one.what).ok();
    writeln!(page, "{} in {:.2} s.\n", one.count, one.seconds).ok();
    for program in &one.programs {
        let each = program.runs as f64 / one.count.max(1) as f64;
        writeln!(
            page,
            "- program `{}`: {:.0} ns a run, {each:.2} runs for each",
            program.program, program.ns_a_run
        )
        .ok();
    }
    for (name, count) in &one.soft_interrupts {
        writeln!(
            page,
            "- soft interrupt {name}: {:.3} for each",
            *count as f64 / one.count.max(1) as f64
        )
        .ok();
    }
    writeln!(page, "\n```text\n{}\n```", one.functions.join("\n")).ok();
}

/// With a capital letter.
fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
