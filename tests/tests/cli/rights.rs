//! What a command may do in its sandbox, and what it reads and writes.

use std::{io::Write, process::Stdio};

use bascule_tests::{Agent, process, wait};

use crate::{run, stage};

/// Whether a script can add an address to the interface of its sandbox.
fn may_change(agent: &Agent, options: &str) -> bool {
    let out = run(agent, &format!("--rm {options}"), "ip addr add 10.9.9.9/32 dev eth0");
    assert!(out.ok() || out.stderr.contains("Operation not permitted"), "{options}: {out:?}");
    out.ok()
}

#[test]
fn s192_a_command_cannot_change_its_network_unless_it_was_said_so() {
    let (agent, net) = stage();
    assert!(!may_change(&agent, ""), "S192");
    for options in
        ["--privileged", "--cap-add NET_ADMIN", "--cap-add cap_net_admin", "--cap-add ALL"]
    {
        assert!(may_change(&agent, options), "{options}");
    }
    assert!(!may_change(&agent, "--cap-add ALL --cap-drop NET_ADMIN"));
    // Not by other means either: devices, routes, settings, a network of its own inside.
    for script in [
        "ip link set eth0 down",
        "ip route del default",
        "echo 1 > /proc/sys/net/ipv4/conf/eth0/forwarding",
        "echo 9000 > /sys/class/net/eth0/mtu",
        "tc qdisc add dev eth0 root pfifo",
        "mount -o remount,rw /proc/sys",
        "umount /proc/sys",
        "unshare -n true",
    ] {
        let out = run(&agent, "--rm", script);
        assert_ne!(out.code, 0, "{script}: {out:?}");
    }
    assert_eq!(
        run(&agent, "--rm --privileged", "echo 1 > /proc/sys/net/ipv4/conf/eth0/forwarding").code,
        0
    );
    // S83: in the host's network, low ports can be opened, and nothing can be changed.
    let host =
        |script: &str| agent.cli("run --rm --network host -- sh -c".split(' ').chain([script]));
    assert_ne!(host("ip link add x type dummy").code, 0, "S83");
    assert_eq!(
        host("python3 -c 'import socket; socket.create_server((\"127.0.0.1\", 81))'").code,
        0
    );
    // What commands need stays: pings, low ports, other users.
    let works = "ping -c 1 -W 2 127.0.0.1 && python3 -c 'import socket; socket.create_server((\"\", 80))' \
                 && setpriv --reuid 65534 --clear-groups true";
    let out = run(&agent, "--rm", works);
    assert_eq!(out.code, 0, "{out:?}");
    assert_ne!(run(&agent, "--rm --cap-drop NET_RAW", "ping -c 1 -W 2 127.0.0.1").code, 0);
    // Who joins a command may do what it may.
    agent.ok("run -d --name plain --network n1 -- sleep 60");
    agent.ok("run -d --name strong --network n1 --privileged -- sleep 60");
    let add = |options: &str, name: &str| {
        let line = format!("exec {options} {name} ip addr replace 10.9.9.9/32 dev eth0");
        agent.cli(line.split_whitespace()).code == 0
    };
    assert!(!add("", "plain") && add("--privileged", "plain") && add("", "strong"));
    agent.ok("run -d --name empty --network n1");
    assert!(!add("", "empty") && add("--privileged", "empty"));
    let wrong = agent.cli("run --cap-add NET_ADMINS --network n1 -- true".split(' '));
    assert_eq!(wrong.code, 2, "{wrong:?}");
    agent.ok("rm -f plain strong empty");
    drop(net);
}

/// Runs the client with something on its standard input.
fn fed(agent: &Agent, words: &[&str], input: &str) -> process::Output {
    let path = agent.places.root().join("input");
    std::fs::write(&path, input).expect("an input");
    let mut command = agent.bascule();
    command.args(words).stdin(std::fs::File::open(&path).expect("an input"));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let out = command.spawn().expect("the client").wait_with_output().expect("its output");
    process::Output {
        code: process::code(out.status),
        stdout: String::from_utf8_lossy(&out.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&out.stderr).into_owned(),
    }
}

#[test]
fn a_command_reads_this_clients_input_if_it_was_said_so() {
    let (agent, _net) = stage();
    let words = ["run", "--rm", "--network", "n1", "--", "cat"];
    assert_eq!(fed(&agent, &words, "hello").stdout, "");
    let words = ["run", "--rm", "-i", "--network", "n1", "--", "cat"];
    assert_eq!(fed(&agent, &words, "hello").stdout, "hello");
    let words = ["run", "--rm", "-it", "--network", "n1", "--", "cat"];
    let out = fed(&agent, &words, "hello");
    assert_eq!(out.code, 2, "{out:?}");
    assert!(out.stderr.contains("the input device is not a TTY"), "{out:?}");
    assert_eq!(agent.ok("ps -a --format {{.Names}}"), "", "it was not made");
    agent.ok("run -d --name c1 --network n1");
    assert_eq!(fed(&agent, &["exec", "-i", "c1", "cat"], "hello").stdout, "hello");
    assert_eq!(fed(&agent, &["exec", "c1", "cat"], "hello").stdout, "");
}

/// Runs the client on a terminal that `script` makes, and types `keys` once the command has written `prompt`.
fn on_terminal(agent: &Agent, line: &str, prompt: &str, keys: &str) -> (i32, String) {
    let client = bascule_tests::agent::binary();
    let mut command = agent.host.command("script");
    for (name, value) in agent.bascule().get_envs() {
        // The environment of a client of this agent.
        value.map(|value| command.env(name, value));
    }
    let log = agent.places.root().join("terminal.log");
    let file = std::fs::File::create(&log).expect("a log");
    command.args(["-qec", &format!("{} {line}", client.display()), "/dev/null"]);
    command.stdin(Stdio::piped()).stdout(file).stderr(Stdio::null());
    let mut script = command.spawn().expect("script");
    let mut typed = script.stdin.take().expect("piped");
    let written = || std::fs::read_to_string(&log).unwrap_or_default();
    wait::wait_until(&format!("{prompt} on the terminal"), wait::SOON, || {
        written().contains(prompt)
    });
    typed.write_all(keys.as_bytes()).expect("typed");
    let status = process::wait(&mut script, wait::SOON).expect("the client ends");
    (process::code(status), written())
}

/// The words of a command in a new container of `n1`, as a shell reads them.
fn words(options: &str, script: &str) -> String {
    format!("run --rm {options} --network n1 -- sh -c '{script}'")
}

#[test]
fn a_command_has_a_terminal_of_its_own_if_it_was_said_so() {
    let (agent, _net) = stage();
    let script =
        "test -t 0 && test -t 1 && test -t 2 && tty; read line; echo \"got $line\"; exit 7";
    let (code, written) = on_terminal(&agent, &words("-it", script), "/dev/pts/", "typed\n");
    assert_eq!(code, 7, "{written}");
    assert!(written.contains("got typed"), "{written}");
    // A key that makes a signal makes it on the command's terminal.
    let script = "trap \"echo caught; exit 9\" INT; echo up; while :; do sleep 0.05; done";
    let (code, written) = on_terminal(&agent, &words("-it", script), "up", "\u{3}");
    assert_eq!(code, 9, "{written}");
    assert!(written.contains("caught"), "{written}");
    // Without -i nothing that is typed arrives, but it has a terminal all the same.
    let out = run(&agent, "--rm -t", "test -t 1 && echo yes");
    assert_eq!((out.code, out.stdout.trim_end()), (0, "yes"), "{out:?}");
    // Everything that was written arrives, however much, and the code with it.
    let out = run(&agent, "--rm -t", "seq 1 20000; exit 3");
    assert_eq!((out.code, out.stdout.lines().count()), (3, 20_000));
    agent.ok("run -d --name c1 --network n1");
    let (code, written) = on_terminal(&agent, "exec -it c1 tty", "/dev/pts/", "");
    assert_eq!(code, 0, "{written}");
}
