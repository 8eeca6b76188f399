//! Who may import whom. The table is the architecture; this file makes it a check.
//!
//! Read are `use` lines and paths that begin with `crate::`, in code only. Tests inside a file obey
//! the same rules; files of their own, `tests.rs`, stand outside and may use every room.

use std::{collections::BTreeSet, fs};

use anyhow::{Result, bail};

use crate::{sh, sources};

/// A room: the files below `at` may name `rooms` of their own crate, or single items of other rooms
/// where so listed, and never the crates in `never`.
struct Room {
    at: &'static str,
    rooms: &'static [&'static str],
    never: &'static [&'static str],
}

/// What pure data and pure decisions have no use for.
const WORLD: &[&str] =
    &["tokio", "aya", "rtnetlink", "nix", "libc", "std::fs", "std::net::TcpStream", "std::process"];
/// What belongs to the kernel room alone.
const KERNEL: &[&str] = &["aya", "rtnetlink", "netlink_sys", "netlink_packet_route"];
const NOTHING: &[&str] = &[];

/// Sibling rooms in the order of dependency; the longest matching `at` counts.
const ROOMS: &[Room] = &[
    // The ABI and the packet walk: nothing but core, no kernel, no library.
    Room { at: "common/src/abi/", rooms: &["abi"], never: WORLD },
    Room { at: "common/src/wire/", rooms: &["abi", "wire"], never: WORLD },
    Room {
        at: "common/src/io/",
        rooms: &[
            "abi",
            "wire",
            "io",
            "datapath::conntrack::Entries",
            "datapath::conntrack::Touch",
            "datapath::family::Family",
            "datapath::short::Recent",
        ],
        never: WORLD,
    },
    Room { at: "common/src/datapath/", rooms: &["abi", "wire", "io", "datapath"], never: WORLD },
    Room {
        at: "common/src/memory/",
        rooms: &["abi", "wire", "io", "datapath", "memory"],
        never: WORLD,
    },
    Room {
        at: "common/src/testing/",
        rooms: &["abi", "wire", "io", "datapath", "memory", "testing"],
        never: WORLD,
    },
    // The control plane. Wishes and plans are data.
    Room { at: "agent/src/model/", rooms: &["model"], never: WORLD },
    Room { at: "agent/src/plan/", rooms: &["model", "plan"], never: WORLD },
    Room {
        at: "agent/src/config/",
        rooms: &["model", "config", "telemetry::log::Format"],
        never: KERNEL,
    },
    Room { at: "agent/src/state/", rooms: &["model", "state"], never: KERNEL },
    // Hands: they do what they are told, and decide nothing.
    Room {
        at: "agent/src/kernel/",
        rooms: &["model", "plan", "kernel"],
        never: &["axum", "clap", "redb"],
    },
    // Files that containers have of the host: made from wishes alone.
    Room {
        at: "agent/src/files/",
        rooms: &["model", "files"],
        never: &["tokio", "aya", "rtnetlink", "nix", "libc", "axum", "clap", "redb"],
    },
    Room {
        at: "agent/src/reconcile/",
        rooms: &["model", "files", "state", "plan", "kernel", "reconcile", "telemetry", "config"],
        never: &["axum", "clap", "rtnetlink", "aya"],
    },
    Room {
        at: "agent/src/api/",
        rooms: &[
            "model",
            "state",
            "reconcile",
            "config",
            "api",
            "plan",
            "kernel",
            "telemetry",
            "why",
            "dns",
            "docker",
        ],
        never: &["clap", "rtnetlink", "aya"],
    },
    // Docker's network driver: another way to ask for changes.
    Room {
        at: "agent/src/plugin/",
        rooms: &["model", "state", "reconcile", "plugin", "kernel", "docker", "api::server"],
        never: &["aya", "clap", "redb", "rtnetlink"],
    },
    Room {
        at: "agent/src/proxy/",
        rooms: &["kernel", "telemetry", "proxy"],
        never: &["aya", "axum", "clap", "redb", "rtnetlink"],
    },
    Room {
        at: "agent/src/dns/",
        rooms: &["model", "kernel", "telemetry", "dns"],
        never: &["aya", "axum", "clap", "redb", "rtnetlink"],
    },
    // Docker's daemon, which is asked, and what of it is ours.
    Room {
        at: "agent/src/docker/",
        rooms: &["model", "state", "kernel", "reconcile", "docker"],
        never: &["aya", "axum", "clap", "redb", "rtnetlink"],
    },
    Room {
        at: "agent/src/why/",
        rooms: &["model", "state", "kernel", "telemetry", "why"],
        never: &["aya", "axum", "clap", "redb", "rtnetlink"],
    },
    Room {
        at: "agent/src/telemetry/",
        rooms: &["model", "state", "kernel", "telemetry", "config"],
        never: &["clap", "rtnetlink", "redb"],
    },
    // The web page: what the API tells, for browsers.
    Room {
        at: "agent/src/ui/",
        rooms: &["api", "ui"],
        never: &["aya", "clap", "nix", "redb", "rtnetlink"],
    },
    // A client: everything it knows comes through the socket.
    Room {
        at: "agent/src/cli/",
        rooms: &["api", "cli", "config", "error", "files", "kernel", "agent"],
        never: &["aya", "redb", "rtnetlink"],
    },
    // The project's own commands build the rest, and know none of it.
    Room { at: "xtask/src/", rooms: ANY, never: &["bascule", "bascule_common", "bascule_tests"] },
    // Harness and tests use the agent from outside.
    Room { at: "tests/", rooms: ANY, never: NOTHING },
];

/// Stands for every room of the crate.
const ANY: &[&str] = &["*"];

/// Checks all sources.
pub fn check() -> Result<()> {
    let mut wrong = Vec::new();
    for path in sources::files()? {
        let Some(room) = room_of(&path).filter(|_| !path.ends_with("/tests.rs")) else { continue };
        let Ok(text) = fs::read_to_string(sh::root().join(&path)) else { continue };
        wrong.extend(
            faults(room, &text).into_iter().map(|(line, fault)| format!("{path}:{line}: {fault}")),
        );
    }
    if !wrong.is_empty() {
        bail!("{}", wrong.join("\n        "));
    }
    Ok(())
}

/// The room a file is in: `abi.rs` and `abi/...` are the same one.
fn room_of(path: &str) -> Option<&'static Room> {
    let stem = path.strip_suffix(".rs")?;
    ROOMS
        .iter()
        .filter(|room| path.starts_with(room.at) || Some(stem) == room.at.strip_suffix('/'))
        .max_by_key(|room| room.at.len())
}

/// Lines that break a rule, and how.
fn faults(room: &Room, text: &str) -> Vec<(usize, String)> {
    let code = without_comments(text);
    let mut wrong = BTreeSet::new();
    for (line, path) in uses(&code).into_iter().chain(crate_paths(&code)) {
        if let Some(inside) = path.strip_prefix("crate::") {
            // Names of the crate root, such as its macros and errors, are nobody's room.
            let is_room = inside.starts_with(|c: char| c.is_ascii_lowercase());
            let may = room.rooms == ANY || room.rooms.iter().any(|may| is_below(inside, may));
            if is_room && !may {
                wrong.insert((line, format!("{} may not name {path}", room.at)));
            }
        } else if let Some(never) = room.never.iter().find(|never| is_below(&path, never)) {
            wrong.insert((line, format!("{} may not name {never}", room.at)));
        }
    }
    wrong.into_iter().collect()
}

fn is_below(path: &str, parent: &str) -> bool {
    path.strip_prefix(parent).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// Every path that `use` statements bring in, groups taken apart, with the line of the statement.
fn uses(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut statement: Option<(usize, String)> = None;
    for (index, line) in code.lines().enumerate() {
        let bare = line.trim();
        let opening = bare
            .strip_prefix("pub ")
            .or_else(|| bare.strip_prefix("pub(crate) "))
            .or_else(|| bare.strip_prefix("pub(super) "))
            .unwrap_or(bare)
            .strip_prefix("use ");
        match (&mut statement, opening) {
            (None, Some(rest)) => statement = Some((index + 1, rest.to_owned())),
            (Some((_, text)), _) => text.push_str(bare),
            (None, None) => continue,
        }
        if let Some((line, text)) = statement.take_if(|(_, text)| text.contains(';')) {
            let body = text.split(';').next().unwrap_or(&text);
            let mut paths = Vec::new();
            flatten("", body, &mut paths);
            found.extend(paths.into_iter().map(|path| (line, path)));
        }
    }
    found
}

/// Takes `a::{b, c::{d, e}}` apart.
fn flatten(prefix: &str, tree: &str, into: &mut Vec<String>) {
    let tree = tree.trim();
    let Some((head, group)) = tree.split_once('{') else {
        let name = tree.split(" as ").next().unwrap_or(tree).trim();
        if !name.is_empty() {
            into.push(format!("{prefix}{}", name.trim_start_matches("::")));
        }
        return;
    };
    let inner = group.strip_suffix('}').unwrap_or(group);
    let prefix = format!("{prefix}{}", head.trim_start_matches("::"));
    let (mut depth, mut start) = (0_usize, 0);
    for (at, c) in inner.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                flatten(&prefix, &inner[start..at], into);
                start = at + 1;
            }
            _ => {}
        }
    }
    flatten(&prefix, &inner[start..], into);
}

/// Every `crate::path` in the code, written out in place.
fn crate_paths(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (index, line) in code.lines().enumerate() {
        for (at, _) in line.match_indices("crate::") {
            let before = line[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '$') {
                continue;
            }
            let rest = &line[at + "crate::".len()..];
            let path: String =
                rest.chars().take_while(|c| c.is_alphanumeric() || "_:".contains(*c)).collect();
            let path = path.trim_end_matches(':');
            if !path.is_empty() {
                found.push((index + 1, format!("crate::{path}")));
            }
        }
    }
    found
}

/// Blanks comments line by line; block comments are not in use here.
fn without_comments(text: &str) -> String {
    text.lines().map(|line| line.split("//").next().unwrap_or(line)).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(code: &str) -> Vec<String> {
        uses(code).into_iter().map(|(_, path)| path).collect()
    }

    #[test]
    fn groups_are_taken_apart_over_several_lines() {
        let code = "pub use std::{\n    fs,\n    net::{IpAddr, TcpStream},\n};\nuse a::b as c;\n";
        assert_eq!(paths(code), ["std::fs", "std::net::IpAddr", "std::net::TcpStream", "a::b"]);
    }

    #[test]
    fn the_line_of_the_statement_is_reported() {
        assert_eq!(uses("\n\nuse a::{\n  b,\n};\n"), [(3, "a::b".to_owned())]);
    }

    #[test]
    fn a_plan_may_name_the_model_and_not_the_kernel() {
        let room = room_of("agent/src/plan/maps.rs").expect("plan is a room");
        assert!(faults(room, "use crate::model::Network;\n").is_empty());
        let wrong = faults(room, "//! Plans.\nuse crate::kernel::bpf;\nuse std::{fs, io};\n");
        assert_eq!(wrong.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [2, 3]);
    }

    #[test]
    fn paths_written_out_in_place_count_too() {
        let room = room_of("agent/src/model.rs").expect("model is a room");
        assert_eq!(faults(room, "fn f() { crate::api::serve() }\n").len(), 1);
        assert!(faults(room, "// crate::api serves\n").is_empty());
    }

    #[test]
    fn crates_are_told_apart_by_their_whole_name() {
        let room = room_of("agent/src/model/net.rs").expect("model is a room");
        assert!(faults(room, "use aya_obj::Map;\nuse std::fs_like;\n").is_empty());
        assert_eq!(faults(room, "use aya::Ebpf;\n").len(), 1);
    }

    #[test]
    fn the_longest_room_counts_and_a_file_is_its_directorys_room() {
        assert_eq!(room_of("common/src/abi/mod.rs").map(|room| room.at), Some("common/src/abi/"));
        assert_eq!(room_of("common/src/wire.rs").map(|room| room.at), Some("common/src/wire/"));
        assert!(room_of("common/src/lib.rs").is_none());
    }
}
