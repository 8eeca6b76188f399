//! `bascule bugreport`: what the agent knows, and what the host's own tools say, in one archive.

use std::{
    fs::OpenOptions,
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::PathBuf,
    process::{Command, Stdio},
};

use flate2::{Compression, write::GzEncoder};
use jiff::Timestamp;

use super::{Context, output};
use crate::{
    api::{bugreport::Bugreport, paths},
    error::{Failure, exit},
};

/// What the host's own tools are asked. Those that are not there are told as missing.
const QUESTIONS: [&str; 13] = [
    "uname -a",
    "cat /etc/os-release",
    "ip -d -s link",
    "ip address",
    "ip rule",
    "ip route show table all",
    "ip -6 route show table all",
    "ip neighbour",
    "bridge -d link",
    "nft list ruleset",
    "iptables-save",
    "ip6tables-save",
    "sysctl net.ipv4.ip_forward net.ipv4.ip_local_reserved_ports net.ipv6.conf.all.forwarding",
];
/// Most bytes of one answer.
const ANSWER: usize = 4 << 20;

/// Writes the archive, and prints its name.
pub fn bugreport(context: &Context, file: Option<PathBuf>) -> Result<u8, Failure> {
    let report: Bugreport = context.client()?.get(paths::BUGREPORT)?;
    let now = Timestamp::now();
    let name = format!("bascule-bugreport-{}", now.strftime("%Y%m%dT%H%M%SZ"));
    let file = file.unwrap_or_else(|| PathBuf::from(format!("{name}.tar.gz")));
    let failed = |error: io::Error| {
        Failure::new(format!("cannot write the report to {}: {error}", file.display()))
    };
    // What the host's firewall says is nobody else's business.
    let out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&file);
    let out = GzEncoder::new(out.map_err(failed)?, Compression::default());
    let mut archive = tar::Builder::new(out);
    let mut add = |path: &str, text: &[u8]| -> io::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(now.as_second().try_into().unwrap_or_default());
        archive.append_data(&mut header, format!("{name}/{path}"), text)
    };
    for (path, text) in &report.files {
        add(path, text.as_bytes()).map_err(failed)?;
    }
    for question in QUESTIONS {
        let path = format!("host/{}.txt", question.replace(['/', ' '], "_"));
        add(&path, &answer(question)).map_err(failed)?;
    }
    archive.into_inner().and_then(GzEncoder::finish).and_then(|f| f.sync_all()).map_err(failed)?;
    output::line(file.display().to_string())?;
    Ok(exit::OK)
}

fn answer(question: &str) -> Vec<u8> {
    let mut words = question.split(' ');
    let mut command = Command::new(words.next().unwrap_or_default());
    match command.args(words).stdin(Stdio::null()).output() {
        Ok(mut out) => {
            out.stdout.truncate(ANSWER);
            out.stdout.extend(out.stderr);
            out.stdout
        }
        Err(error) => format!("{question}: {error}\n").into_bytes(),
    }
}
