//! Bulk transfers by iperf3, offloads and all.

use std::{net::SocketAddr, time::Duration};

use serde_json::Value;

use super::Endpoint;
use crate::{Netns, process, wait};

/// What a bulk transfer did.
#[derive(Clone, Copy, Debug)]
pub struct Flow {
    /// Bytes that the receiver got.
    pub received: u64,
    /// Segments sent twice.
    pub retransmits: u64,
}

/// Transfers for so many seconds from the client's namespace to the server's, which listens on
/// `port`; `options` are more words for the client (`-R`, `-u -b 200M`).
#[track_caller]
pub fn iperf(
    server: &Netns,
    port: u16,
    client: &Netns,
    to: impl Endpoint,
    seconds: u32,
    options: &str,
) -> Flow {
    let limit = Duration::from_secs(u64::from(seconds) + 30);
    let mut listen = server.command("iperf3");
    listen.args(["--server", "--one-off", "--port", &port.to_string()]);
    let mut listening = process::start(listen.stdin(std::process::Stdio::null()));
    wait::wait_until("iperf3 listens", wait::SOON, || {
        let word = format!("sport = :{port}");
        let mut command = server.command("ss");
        let out = process::run(command.args(["-Hltn", &word]), process::LIMIT);
        !out.stdout.trim().is_empty()
    });
    let at: SocketAddr = to.into();
    let mut connect = client.command("iperf3");
    connect
        .args(["--json", "--connect-timeout", "5000", "--time", &seconds.to_string()])
        .args(["--client", &at.ip().to_string(), "--port", &at.port().to_string()])
        .args(options.split_whitespace());
    let out = process::run(&mut connect, limit);
    if !out.ok() {
        listening.child.kill().ok();
    }
    let server_out = listening.finish("iperf3 --server", limit);
    assert!(
        out.ok(),
        "iperf3 from {} to {to}: {}{}\nserver: {}",
        client.name(),
        out.stdout,
        out.stderr,
        server_out.stdout
    );
    let report: Value = serde_json::from_str(&out.stdout).expect("iperf3 speaks JSON");
    let end = &report["end"];
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    let received = match &end["sum_received"]["bytes"] {
        Value::Null => number(&end["sum"]["bytes"]),
        bytes => number(bytes),
    };
    Flow { received, retransmits: number(&end["sum_sent"]["retransmits"]) }
}
