//! `bascule monitor`: what happens on the network, as it happens.

use std::{
    fs::{File, OpenOptions},
    io::{self, IsTerminal as _},
    ops::ControlFlow,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use anstyle::{AnsiColor, Style};
use jiff::Timestamp;

use super::{
    Context, args, output,
    pcapng::{Link, Packet, Writer},
};
use crate::{
    api::{monitor::Seen, paths},
    error::{Failure, exit},
};

/// What happens now needs no date.
const TIME: &str = "%H:%M:%S.%3f";

/// Prints what is asked for until the agent ends, or there was enough of it.
pub fn monitor(context: &Context, mut args: args::Monitor) -> Result<u8, Failure> {
    if args.dns {
        args.types.push("dns".to_owned());
    }
    let mut file = args.write.as_deref().map(create).transpose()?;
    let json = args.format.unwrap_or(context.global.output) == args::Format::Json;
    let frames = if file.is_some() { "1" } else { "" };
    let lists = lists(&args.types, &args.whose);
    let mut query: Vec<_> = lists.iter().map(|(key, list)| (*key, list.as_str())).collect();
    query.push(("frames", frames));
    let paint = paints();
    let mut left = args.count;
    let mut failed = None;
    context.client()?.lines(&paths::query(paths::MONITOR, &query), |line| {
        let shown = show(line, file.as_mut(), json, paint);
        left = left.map(|left| left.saturating_sub(1));
        match shown {
            Ok(_) if left == Some(0) => ControlFlow::Break(()),
            Ok(goes_on) => goes_on,
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        }
    })?;
    failed.map_or(Ok(exit::OK), Err)
}

/// What is asked for, as the agent reads it.
pub(super) fn lists(types: &[String], whose: &args::Whose) -> [(&'static str, String); 9] {
    [
        ("type", types),
        ("from", &whose.from),
        ("to", &whose.to),
        ("related-to", &whose.related_to),
        ("network", &whose.network),
        ("port", &whose.port),
        ("proto", &whose.proto),
        ("reason", &whose.reason),
        ("verdict", &whose.verdict),
    ]
    .map(|(key, list)| (key, list.join(",")))
}

/// Whether lines have colours.
pub(super) fn paints() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

fn create(path: &Path) -> Result<Writer<File>, Failure> {
    // What is in packets is for whoever may ask the agent for it: root.
    let mut options = OpenOptions::new();
    options.create(true).write(true).truncate(true).mode(0o600);
    let file = options.open(path).and_then(Writer::new);
    file.map_err(|error| {
        Failure::new(format!("cannot write packets to {}: {error}", path.display()))
    })
}

fn show(
    line: &[u8],
    file: Option<&mut Writer<File>>,
    json: bool,
    paint: bool,
) -> Result<ControlFlow<()>, Failure> {
    let seen: Seen = serde_json::from_slice(line).map_err(anyhow::Error::from)?;
    if let Some(file) = file {
        write(file, &seen)?;
    }
    Ok(match json {
        true => output::told(String::from_utf8_lossy(line.trim_ascii()))?,
        false => output::told(painted(&seen, TIME, paint))?,
    })
}

fn write(file: &mut Writer<File>, seen: &Seen) -> Result<(), Failure> {
    let digits = seen.frame.as_bytes().chunks_exact(2);
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let frame: Option<Vec<u8>> = digits.map(byte).collect();
    let (Some(frame), Ok(time)) = (frame, seen.time.parse::<Timestamp>()) else { return Ok(()) };
    if frame.is_empty() {
        return Ok(());
    }
    let whose = if seen.container.is_empty() { "no container" } else { &seen.container };
    let packet = Packet {
        interface: &seen.interface,
        link: if seen.raw { Link::Raw } else { Link::Ethernet },
        time: time.as_nanosecond().try_into().unwrap_or_default(),
        frame: &frame,
        length: seen.length.try_into().unwrap_or(u32::MAX),
        comment: &format!(
            "{} {} {whose}: {}{}",
            seen.verdict,
            if seen.direction == "in" { "into" } else { "out of" },
            if seen.reason.is_empty() { String::new() } else { format!("{}: ", seen.reason) },
            seen.explanation
        ),
    };
    file.write(&packet).map_err(|error| Failure::new(format!("cannot write the packet: {error}")))
}

/// Writes an event for people, its time as said.
pub(super) fn painted(seen: &Seen, time: &str, paint: bool) -> String {
    let style = if paint { style(seen) } else { Style::new() };
    format!("{style}{}{style:#}", text(seen, time))
}

fn style(seen: &Seen) -> Style {
    match seen.kind.as_str() {
        "drop" | "lost" => AnsiColor::Red.on_default(),
        "open" | "trace" => AnsiColor::Green.on_default(),
        "close" => AnsiColor::BrightBlack.on_default(),
        _ => AnsiColor::Cyan.on_default(),
    }
}

fn text(seen: &Seen, format: &str) -> String {
    let time = seen.time.parse::<Timestamp>();
    let time = time.map_or(seen.time.clone(), |time| time.strftime(format).to_string());
    let kind = &seen.kind;
    let what = match kind.as_str() {
        "lifecycle" => seen.explanation.clone(),
        "lost" => format!("{} {}", seen.count, seen.explanation),
        "drop" => format!(
            "{} {} ({}): {}: {}",
            path(seen),
            proto(seen),
            seen.interface,
            seen.reason,
            seen.explanation
        ),
        "trace" => format!(
            "{} {} ({}): {} bytes, {}",
            path(seen),
            proto(seen),
            seen.interface,
            seen.length,
            seen.explanation
        ),
        "close" => format!("{} {} {}{}", path(seen), proto(seen), seen.end, went(seen)),
        "dns" => asked(seen),
        _ => format!("{} {}", path(seen), proto(seen)),
    };
    format!("{time} {kind:<9} {what}")
}

/// Writes what went both ways of a connection.
fn went(seen: &Seen) -> String {
    let both = &seen.traffic;
    if both.sent_packets + both.received_packets == 0 {
        return String::new();
    }
    format!(
        ", {} packets ({} bytes) there, {} ({} bytes) back",
        both.sent_packets, both.sent_bytes, both.received_packets, both.received_bytes
    )
}

/// Writes who asked for what, and what was answered by whom.
fn asked(seen: &Seen) -> String {
    let Seen { from, source, query, query_type, code, answered_by, answers, .. } = seen;
    let took = match seen.microseconds {
        0 => String::new(),
        took => format!(" after {}.{} ms", took / 1_000, took / 100 % 10),
    };
    let answers = answers.join(" ");
    let text =
        format!("{from} {source}: {query} {query_type}: {code} ({answered_by}{took}) {answers}");
    text.trim().to_owned()
}

fn proto(seen: &Seen) -> &str {
    if seen.proto.is_empty() { "not IP" } else { &seen.proto }
}

/// Writes who sent to whom, with what was translated.
fn path(seen: &Seen) -> String {
    if seen.source.is_empty() {
        return format!("{} {}", seen.container, seen.direction).trim().to_owned();
    }
    let end = |name: &str, address: &str, translated: &str| match translated {
        "" => format!("{name} {address}"),
        translated => format!("{name} {address} ({translated})"),
    };
    let source = end(&seen.from, &seen.source, &seen.translated_source);
    format!("{source} -> {}", end(&seen.to, &seen.destination, &seen.translated_destination))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p110_a_line_says_who_asked_what_and_who_knew() {
        let seen = Seen {
            time: "2026-01-02T03:04:05.678Z".into(),
            kind: "dns".into(),
            from: "c1".into(),
            source: "172.18.0.2".into(),
            query: "www.example.com".into(),
            query_type: "A".into(),
            code: "NOERROR".into(),
            answered_by: "upstream".into(),
            answers: vec!["192.0.2.80".into(), "192.0.2.81".into()],
            microseconds: 12_345,
            ..Seen::default()
        };
        assert_eq!(
            text(&seen, TIME),
            "03:04:05.678 dns       c1 172.18.0.2: www.example.com A: NOERROR (upstream after 12.3 ms) 192.0.2.80 192.0.2.81"
        );
        let known =
            Seen { microseconds: 0, answers: Vec::new(), answered_by: "local".into(), ..seen };
        assert!(text(&known, TIME).ends_with("www.example.com A: NOERROR (local)"));
    }

    #[test]
    fn p80_a_line_says_who_what_and_why() {
        let seen = Seen {
            time: "2026-01-02T03:04:05.678Z".into(),
            kind: "drop".into(),
            reason: "policy_icc".into(),
            explanation: "ICC is off.".into(),
            interface: "bsc00000001".into(),
            proto: "tcp".into(),
            from: "c1".into(),
            to: "c2".into(),
            source: "172.18.0.2:40000".into(),
            destination: "172.18.0.3:80".into(),
            ..Seen::default()
        };
        assert_eq!(
            text(&seen, TIME),
            "03:04:05.678 drop      c1 172.18.0.2:40000 -> c2 172.18.0.3:80 tcp (bsc00000001): policy_icc: ICC is off."
        );
        let open =
            Seen { kind: "open".into(), translated_destination: "172.18.0.3:8080".into(), ..seen };
        assert_eq!(
            text(&open, TIME),
            "03:04:05.678 open      c1 172.18.0.2:40000 -> c2 172.18.0.3:80 (172.18.0.3:8080) tcp"
        );
    }
}
