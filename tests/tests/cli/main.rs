//! Commands in sandboxes: what `bascule run` and `bascule exec` promise, with a real agent.
//!
//! The command line without an agent is tested beside it, in `agent/tests/cli.rs`.

mod connectivity;
mod monitor;
mod networks;
mod rights;
mod top;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Stdio},
};

use bascule_tests::{Agent, Netns, Topology, process, wait};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// A host with an agent and a network `n1`.
fn stage() -> (Agent, Topology) {
    let net = Topology::new();
    let agent = Agent::start(&net.host);
    agent.network("n1", "");
    (agent, net)
}

/// Runs a shell script in a container of `n1`; `options` are more words of the command line.
fn run(agent: &Agent, options: &str, script: &str) -> process::Output {
    let mut words = vec!["run", "--network", "n1"];
    words.extend(options.split_whitespace());
    words.extend(["--", "sh", "-c", script]);
    agent.cli(words)
}

/// Starts such a client without waiting for it. Its output goes to a file, so that a command that
/// outlives it keeps nobody waiting.
fn start(agent: &Agent, options: &str, script: &str) -> (Child, PathBuf) {
    let log = agent.places.root().join("client.log");
    let file = fs::File::create(&log).expect("a log");
    let mut command = agent.bascule();
    command.args(["run", "--network", "n1"]).args(options.split_whitespace());
    command.args(["--", "sh", "-c", script]).stdin(Stdio::null());
    command.stdout(file.try_clone().expect("a log")).stderr(file);
    (command.spawn().expect("start the client"), log)
}

fn wait_for_word(log: &Path, word: &str) {
    wait::wait_until(&format!("{word} in the client's output"), wait::SOON, || {
        fs::read_to_string(log).is_ok_and(|text| text.contains(word))
    });
}

fn end(mut client: Child) -> i32 {
    process::code(process::wait(&mut client, wait::SOON).expect("the client ends"))
}

fn signal(client: &Child, signal: Signal) {
    kill(Pid::from_raw(client.id().cast_signed()), signal).expect("a signal");
}

/// Names of all containers, running or not.
fn names(agent: &Agent) -> String {
    agent.ok("ps -a --format {{.Names}}")
}

fn pid(agent: &Agent, container: &str) -> i32 {
    let pid = &agent.inspect("container", container)["State"]["Pid"];
    pid.as_i64().and_then(|pid| i32::try_from(pid).ok()).expect("a process id")
}

fn lives(pid: i32) -> bool {
    kill(Pid::from_raw(pid), None).is_ok()
}

#[test]
fn exit_codes_are_the_commands_own_or_dockers() {
    let (agent, _net) = stage();
    assert_eq!(run(&agent, "--rm", "exit 7").code, 7);
    assert_eq!(run(&agent, "--rm", "kill -KILL $$").code, 137);
    let missing = agent.cli(["run", "--network", "n1", "--", "no-such-program"]);
    assert_eq!(missing.code, 127, "{missing:?}");
    assert!(missing.stderr.contains("executable file not found"), "{missing:?}");
    assert_eq!(agent.cli(["run", "--network", "n1", "--", "/etc/passwd"]).code, 126);
    let refused = agent.cli(["run", "--network", "nowhere", "--", "true"]);
    assert_eq!(refused.code, 125);
    assert_eq!(refused.stderr.trim(), "Error response from daemon: network nowhere not found");
    let image = agent.cli("run -itd --net n1 --name c1 busybox sh".split(' '));
    assert_eq!(image.code, 2, "{image:?}");
    assert_eq!(names(&agent), "", "what did not run left a container");
    agent.ok("run -d --name c1 --network n1");
    assert_eq!(agent.cli(["exec", "c1", "sh", "-c", "exit 9"]).code, 9);
    assert_eq!(agent.cli(["exec", "c1", "no-such-program"]).code, 127);
    assert_eq!(agent.cli(["exec", "nobody", "true"]).code, 125);
}

#[test]
fn s125_s126_a_command_has_names_files_and_sys_of_its_own() {
    let (agent, _net) = stage();
    let host = fs::read_to_string("/etc/hosts").expect("hosts");
    let script = "hostname; cat /etc/hostname; ls -m /sys/class/net; ls -d /sys/fs/cgroup/*; \
                  grep my1 /etc/hosts; echo '10.1.1.1 added' >> /etc/hosts";
    let out = run(&agent, "--rm --name c1 -h my1.lan", script);
    assert_eq!(out.code, 0, "{out:?}");
    let mut lines = out.stdout.lines();
    assert_eq!(lines.next(), Some("my1.lan"));
    assert_eq!(lines.next(), Some("my1.lan"));
    assert_eq!(lines.next(), Some("eth0, lo"));
    assert!(out.stdout.contains("/sys/fs/cgroup/"), "cgroups went away: {out:?}");
    assert!(out.stdout.trim_end().ends_with("\tmy1.lan my1"), "{out:?}");
    assert_eq!(fs::read_to_string("/etc/hosts").expect("hosts"), host, "the host's hosts changed");
    let left = fs::read_dir(agent.places.run().join("containers")).map(Iterator::count);
    assert_eq!(left.unwrap_or_default(), 0, "files of a removed container stayed");
}

#[test]
fn exec_enters_what_the_command_sees() {
    let (agent, _net) = stage();
    let (client, log) =
        start(&agent, "--name c1", "echo '10.1.1.1 added' >> /etc/hosts; echo up; sleep 60");
    wait_for_word(&log, "up");
    let seen = agent.cli(["exec", "c1", "sh", "-c", "grep -c added /etc/hosts; hostname"]);
    let id = agent.ok("ps -q");
    assert_eq!(seen.stdout, format!("1\n{id}\n"), "{seen:?}");
    agent.ok("stop -t 1 c1");
    assert_eq!(end(client), 143);
    let state = agent.inspect("container", "c1")["State"].clone();
    assert_eq!((state["Status"].as_str(), state["ExitCode"].as_i64()), (Some("exited"), Some(143)));
    assert!(agent.refused("rm nobody").contains("No such container: nobody"));
    assert_eq!(agent.ok("rm c1"), "c1");
}

#[test]
fn a_command_outlives_the_client_and_the_agent() {
    let (mut agent, _net) = stage();
    let (mut client, log) = start(&agent, "--name c1", "echo up; sleep 60");
    wait_for_word(&log, "up");
    let command = pid(&agent, "c1");
    client.kill().expect("SIGKILL");
    client.wait().expect("gone");
    agent.restart();
    assert!(lives(command), "the command died with its client or the agent");
    assert_eq!(pid(&agent, "c1"), command);
    assert_eq!(agent.ok("ps --format {{.Names}}"), "c1");
    agent.ok("stop -t 1 c1");
    wait::wait_until("the end of the command", wait::SOON, || !lives(command));
    assert_eq!(agent.ok("ps"), agent.ok("ps -f name=nobody"));
}

#[test]
fn rm_removes_whatever_became_of_the_agent() {
    let (mut agent, _net) = stage();
    let gate = agent.places.root().join("gate");
    nix::unistd::mkfifo(&gate, nix::sys::stat::Mode::S_IRWXU).expect("a gate");
    let (client, log) = start(&agent, "--rm --name c1", "echo up; read line < gate; exit 5");
    wait_for_word(&log, "up");
    agent.restart();
    fs::write(&gate, "go\n").expect("the gate is open");
    assert_eq!(end(client), 5);
    assert_eq!(names(&agent), "");

    let (client, log) = start(&agent, "--rm --name c2", "echo up; read line < gate; exit 6");
    wait_for_word(&log, "up");
    agent.kill9();
    fs::write(&gate, "go\n").expect("the gate is open");
    assert_eq!(end(client), 6);
    let said = fs::read_to_string(&log).expect("a log");
    assert!(said.contains("its next start removes container c2"), "{said}");
    agent.restart();
    wait::wait_equal("no container", wait::SOON, &String::new(), || names(&agent));
}

#[test]
fn signals_go_on_to_the_command() {
    let (agent, _net) = stage();
    let script = "trap 'echo got it; exit 9' TERM; echo up; while :; do sleep 0.05; done";
    let (client, log) = start(&agent, "--rm --name c1", script);
    wait_for_word(&log, "up");
    signal(&client, Signal::SIGTERM);
    assert_eq!(end(client), 9);
    wait_for_word(&log, "got it");
    // The command has none of the client's held signals.
    let (client, log) = start(&agent, "--rm --name c2", "echo up; exec sleep 60");
    wait_for_word(&log, "up");
    signal(&client, Signal::SIGINT);
    assert_eq!(end(client), 130);
    assert_eq!(names(&agent), "");
}

#[test]
fn detached_sandboxes_stay_and_detached_commands_end() {
    let (agent, _net) = stage();
    let id = agent.ok("run -itd --name c1 --network n1");
    assert_eq!(id.len(), 64, "{id}");
    assert_eq!(agent.ok("ps -q --no-trunc"), id);
    let out = run(&agent, "-d --rm --name c2", "sleep 0.3");
    assert_eq!((out.code, out.stdout.trim_end().len()), (0, 64), "{out:?}");
    wait::wait_equal("c1 alone", wait::SOON, &"c1".to_owned(), || names(&agent));
}

#[test]
fn s88_a_brought_namespace_is_used_and_left_as_it_was() {
    let (agent, _net) = stage();
    let own = Netns::new("brought");
    let out =
        run(&agent, &format!("--rm --netns {}", own.path().display()), "ls -m /sys/class/net");
    assert_eq!((out.code, out.stdout.as_str()), (0, "eth0, lo\n"), "{out:?}");
    assert_eq!(own.interfaces(), ["lo"]);
    assert!(own.path().exists());
}

/// The agent hears of the command's end as the client does, and may be about its removal when it is asked for it.
#[test]
fn s88_who_is_told_that_a_container_is_gone_finds_nothing_of_it() {
    let (agent, _net) = stage();
    let own = Netns::new("brought");
    for round in 0..20 {
        let out = run(&agent, &format!("--rm --netns {}", own.path().display()), "exit 3");
        assert_eq!(out.code, 3, "{out:?}");
        assert_eq!(own.interfaces(), ["lo"], "after {round} rounds");
    }
}

#[test]
fn s121_ports_are_listed_as_docker_does() {
    let (agent, _net) = stage();
    agent.ok("run -d --name c1 --network n1 -p 8080:80 -p 5000-5001:6000-6001/udp --expose 443");
    let all = "80/tcp -> 0.0.0.0:8080\n6000/udp -> 0.0.0.0:5000\n6001/udp -> 0.0.0.0:5001";
    assert_eq!(agent.ok("port c1"), all);
    assert_eq!(agent.ok("port c1 6001/udp"), "0.0.0.0:5001");
    assert!(agent.refused("port c1 81").contains("no public port '81/tcp'"));
    let row = agent.ok("ps --format {{.Ports}}");
    assert_eq!(row, "0.0.0.0:8080->80/tcp, 443/tcp, 0.0.0.0:5000-5001->6000-6001/udp");
}

#[test]
fn a_port_may_stand_right_behind_its_flag() {
    let (agent, _net) = stage();
    agent.ok("run -d --name c1 --network n1 -p8080:80 -p127.0.0.1:53:53/udp");
    assert_eq!(agent.ok("port c1"), "53/udp -> 127.0.0.1:53\n80/tcp -> 0.0.0.0:8080");
    // Docker has both on one line, before its own arguments.
    let out = agent.cli(["run", "-dp", "8081:80", "--name", "c2", "--network", "n1"]);
    assert!(out.ok(), "{out:?}");
    assert_eq!(agent.ok("port c2"), "80/tcp -> 0.0.0.0:8081");
}
