//! `docs/oracle.md`: the differences by reason, as short as they can be said.

use std::{collections::BTreeSet, fmt::Write as _};

use super::{
    Difference,
    explained::REASONS,
    stage::{CONTAINERS, NETWORKS, VERSION},
};

/// Writes the page, or says which differences have no reason and which reasons no difference.
pub fn write(asked: usize, differences: [Vec<Difference>; 2]) -> Result<String, String> {
    let [with, without] = differences.each_ref().map(Vec::len);
    let mut page = head(asked, with);
    let [with_proxy, without_proxy] = differences;
    let mut said = BTreeSet::new();
    let mut faults = String::new();
    page += &part(with_proxy, &mut said, &mut faults);
    page += &bare(asked, without);
    page += &part(without_proxy, &mut said, &mut faults);
    for reason in REASONS.iter().filter(|reason| !said.contains(reason.title)) {
        faults += &format!("explained, but no longer so: {}\n", reason.title);
    }
    if faults.is_empty() { Ok(page) } else { Err(faults) }
}

/// What one of the Dockers does otherwise. A reason that has been said before is named only.
fn part(
    differences: Vec<Difference>,
    said: &mut BTreeSet<&'static str>,
    faults: &mut String,
) -> String {
    let mut groups: Vec<Vec<Difference>> = REASONS.iter().map(|_| Vec::new()).collect();
    let mut unexplained = Vec::new();
    for difference in differences {
        match REASONS.iter().position(|reason| (reason.fits)(&difference)) {
            Some(at) => groups[at].push(difference),
            None => unexplained.push(difference),
        }
    }
    if !unexplained.is_empty() {
        let how = unexplained[0].proxy;
        *faults += &format!("differences that nothing explains (proxy {how:?}):\n");
        *faults += &table(&unexplained);
    }
    let mut text = String::new();
    for (reason, group) in REASONS.iter().zip(&groups).filter(|(_, group)| !group.is_empty()) {
        let new = said.insert(reason.title);
        let why = if new { fold(reason.why) } else { "As above.".to_owned() };
        let _ = write!(text, "\n### {}\n\n{why}\n\n{} questions:\n\n", reason.title, group.len());
        text += &table(group);
    }
    text
}

/// Opens the part about Docker without its proxy.
fn bare(asked: usize, different: usize) -> String {
    let same = asked - different;
    let text = fold(&format!(
        "The same world by `dockerd --userland-proxy=false`: iptables alone carries everything. {same} questions have \
         the same answer as by us; these {different} have not."
    ));
    format!("\n## Without Docker's proxy\n\n{text}\n")
}

fn head(asked: usize, different: usize) -> String {
    let same = asked - different;
    let mut page = fold(&format!(
        "What Docker {VERSION}'s bridge networks do to packets, and what ours do otherwise. `cargo xtask test docker` \
         builds one world three times, by a real `dockerd --experimental --ip6tables --ipv6 --icc=false` with its iptables rules \
         and its proxy, by the same without the proxy, and by `bascule agent --ipv6 --icc=false`, asks {asked} questions in each, \
         and compares who is answered, which address the server sees, and which one the answer comes from. All that \
         have another answer are below, each under its reason. The test writes this page \
         (`BASCULE_TEST_RECORD=1`) and fails when it is no longer true: when a difference is new, and when one is gone."
    ));
    page.insert_str(0, "# The oracle\n\n");
    page += "\n\nThe world: a host with two addresses and its router's segment, with a `neighbour` on it and an `outside` \
             client\nbehind, who both know routes to all containers. Networks, with their containers and what these \
             publish:\n\n";
    page += "| network | options | containers |\n|---|---|---|\n";
    let all = [("bridge", "the default one, --icc=false")].into_iter();
    let all = all.chain(NETWORKS.iter().map(|network| (network.name, network.options)));
    for (network, options) in all {
        let containers = CONTAINERS.iter().filter(|(_, of, _)| *of == network);
        let containers: Vec<String> = containers
            .map(|(name, _, publish)| match publish.is_empty() {
                true => format!("`{name}`"),
                false => format!("`{name} {publish}`"),
            })
            .collect();
        let options = options.strip_prefix("-o com.docker.network.bridge.").unwrap_or(options);
        let _ = writeln!(page, "| {network} | {options} | {} |", containers.join(", "));
    }
    page += "\nAll but `plain` have IPv6. Each container, the host and the others serve TCP 80 and UDP 53. A question is a \
             TCP connection with\n4,000 bytes each way, a datagram or a ping of 56 bytes or of 4,000 (fragments), by \
             every address that the host has for the\nasker. `silence` is silence on the server's side as well, \
             unless something else is said.\n";
    page += "\nSome questions are packets by hand, SCTP among them, of which each header is compared where it arrives: \
             source and port, TTL,\nTOS (all of them bear DSCP EF and a congestion mark), DF, options of IP and TCP, \
             payload and checksum. What is not named in an\nanswer has arrived as it was sent.\n";
    let _ = write!(
        page,
        "\n## Docker as it comes\n\n{same} questions have the same answer by both; these {different} have not.\n"
    );
    page
}

/// Breaks a text into lines.
fn fold(text: &str) -> String {
    let mut folded = String::new();
    let mut length = 0;
    for word in text.split_whitespace() {
        if length + word.len() > 118 {
            folded.push('\n');
            length = 0;
        } else if length > 0 {
            folded.push(' ');
            length += 1;
        }
        folded += word;
        length += word.len();
    }
    folded
}

/// A row: the product of its sets is what it stands for.
type Row = ([BTreeSet<String>; 5], [String; 2]);

fn table(differences: &[Difference]) -> String {
    let mut rows: Vec<Row> = differences
        .iter()
        .map(|Difference { cell, docker, bascule, .. }| {
            let sets = [&cell.from, &cell.to, &cell.at, &format!("IPv{}", cell.family), &cell.by];
            (sets.map(|word| BTreeSet::from([word.clone()])), [docker.clone(), bascule.clone()])
        })
        .collect();
    while merge(&mut rows) {}
    rows.sort();
    let mut text =
        "| from | to | at | by | Docker | Bascule |\n|---|---|---|---|---|---|\n".to_owned();
    for ([from, to, at, family, by], [docker, bascule]) in &rows {
        let by = format!("{} {}", list(family), means(by));
        let (from, to, at) = (list(from), list(to), places(at));
        let _ = writeln!(text, "| {from} | {to} | {at} | {by} | {docker} | {bascule} |");
    }
    text
}

/// Joins two rows that are the same but for one set; says whether there were such.
fn merge(rows: &mut Vec<Row>) -> bool {
    for dimension in [4, 3, 2, 1, 0] {
        let before = rows.len();
        let mut merged: Vec<Row> = Vec::new();
        for (sets, results) in rows.drain(..) {
            let same = |row: &&mut Row| {
                let others = (0..5).filter(|at| *at != dimension);
                row.1 == results && others.clone().all(|at| row.0[at] == sets[at])
            };
            match merged.iter_mut().find(same) {
                Some(row) => row.0[dimension].extend(sets[dimension].iter().cloned()),
                None => merged.push((sets, results)),
            }
        }
        *rows = merged;
        if rows.len() < before {
            return true;
        }
    }
    false
}

fn list(set: &BTreeSet<String>) -> String {
    let words: Vec<&str> = set.iter().map(String::as_str).collect();
    words.join(", ")
}

fn places(set: &BTreeSet<String>) -> String {
    let words: Vec<&str> = set.iter().map(String::as_str).collect();
    words.join("; ")
}

/// Ways, where both sizes of one go by its name.
fn means(set: &BTreeSet<String>) -> String {
    let mut words = Vec::new();
    for name in ["tcp", "udp", "ping"] {
        let of: Vec<&String> = set.iter().filter(|word| word.starts_with(name)).collect();
        match of.as_slice() {
            [] => {}
            [one] => words.push((*one).clone()),
            _ => words.push(name.to_owned()),
        }
    }
    let asked = |word: &&&str| ["tcp", "udp", "ping"].iter().any(|name| word.starts_with(name));
    words.extend(set.iter().map(String::as_str).filter(|word| !asked(&word)).map(str::to_owned));
    words.join(", ")
}

/// Lines that one page has and the other has not.
pub fn changes(recorded: &str, page: &str) -> String {
    let only = |sign: char, text: &str, other: &str| {
        let other: BTreeSet<&str> = other.lines().collect();
        let lines = text.lines().filter(|line| !other.contains(line));
        lines.map(|line| format!("{sign} {line}\n")).collect::<String>()
    };
    only('-', recorded, page) + &only('+', page, recorded)
}
