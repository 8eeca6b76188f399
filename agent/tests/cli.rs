//! The binary's command line where no agent is needed: help, usage errors, an agent that is away.

use std::process::{Command, Output};

/// Runs the binary with the words of a line, in an environment of its own.
fn bascule(line: &str) -> Output {
    let dir = tempfile::tempdir().expect("a directory");
    let mut command = Command::new(env!("CARGO_BIN_EXE_bascule"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("BASCULE_")) {
        command.env_remove(name);
    }
    command.env("BASCULE_RUN_DIR", dir.path()).env("BASCULE_CONFIG", dir.path().join("none.toml"));
    std::fs::write(dir.path().join("none.toml"), "").expect("an empty configuration");
    command.args(line.split_whitespace()).output().expect("the binary runs")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn usage_errors_exit_with_two() {
    for line in [
        "",
        "nope",
        "network",
        "network create",
        "network create --subnet 10.0.0.0 --gateway",
        "network create --gateway 10.0.0.1 n",
        "network ls --filter foo=1",
        "run --name c1",
        "run --name c1 busybox sh",
        "create busybox",
        "run -e =x -- true",
        "ps --output yaml",
        "exec c1",
        "policy",
        "policy deny",
        "policy deny add",
        "policy deny rm",
        "policy deny ls --output yaml",
        "agent --bip 10.0.0.1/33",
        "agent --metrics-listen foo",
        "connectivity",
        "connectivity test --family 5",
        "connectivity test --timeout 0",
        "connectivity test --external example.com",
    ] {
        let output = bascule(line);
        assert_eq!(output.status.code(), Some(2), "{line}: {}", stderr(&output));
        assert!(!stderr(&output).trim().is_empty(), "{line}");
        assert_eq!(stdout(&output), "", "{line}");
    }
}

#[test]
fn an_image_is_refused_with_a_hint() {
    let output = bascule("run -itd --net bluenet --name c1 busybox sh");
    assert_eq!(output.status.code(), Some(2));
    let text = stderr(&output);
    assert!(text.contains("there are no images here"), "{text}");
    assert!(text.contains("bascule run --name c1 ... -- sh"), "{text}");
}

#[test]
fn an_agent_that_is_away_is_named_by_its_socket() {
    for (line, code) in [
        ("network ls", 1),
        ("network create n1", 1),
        ("network rm n1", 1),
        ("ps", 1),
        ("container create --name c1", 1),
        ("container start c1", 1),
        ("port c1", 1),
        ("inspect c1", 1),
        ("status", 1),
        ("run --name c1 -- true", 125),
        ("exec c1 true", 125),
    ] {
        let output = bascule(line);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{line}: {text}");
        assert!(text.starts_with("error: cannot reach the agent at /"), "{line}: {text}");
        assert!(text.contains("/bascule.sock: no such file or directory"), "{line}: {text}");
        assert!(text.contains("is `bascule agent` running?"), "{line}: {text}");
        assert_eq!(stdout(&output), "", "{line}");
    }
}

#[test]
fn a_configuration_that_is_wrong_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("b.toml");
    std::fs::write(&file, "run_dir = 7\n").expect("a file");
    // A client that is told the run directory has no use for the file.
    let output = bascule(&format!("--config {} ps", file.display()));
    assert!(stderr(&output).contains("cannot reach the agent"), "{}", stderr(&output));
    let output = bascule(&format!("--config {} agent", file.display()));
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("b.toml:1: run_dir"), "{}", stderr(&output));
}

#[test]
fn help_and_version_exit_with_zero() {
    for line in [
        "--help",
        "-h",
        "--version",
        "help",
        "help run",
        "run --help",
        "container run --help",
        "container create --help",
        "network create --help",
        "exec --help",
        "agent --help",
        "agent cleanup --help",
        "connectivity test --help",
    ] {
        let output = bascule(line);
        assert_eq!(output.status.code(), Some(0), "{line}: {}", stderr(&output));
        assert!(!stdout(&output).is_empty(), "{line}");
    }
}

#[test]
fn help_shows_examples_where_they_help() {
    assert!(stdout(&bascule("run --help")).contains("bascule run --rm --name c1"));
    assert!(stdout(&bascule("network create --help")).contains("enable_icc=false quiet"));
}

#[test]
fn scripts_and_manual_are_printed() {
    assert!(stdout(&bascule("completion bash")).contains("_bascule"));
    assert!(stdout(&bascule("completion fish")).contains("complete -c bascule"));
    assert!(stdout(&bascule("man")).contains(".TH"));
    let dir = tempfile::tempdir().expect("a directory");
    let output = bascule(&format!("man --dir {}", dir.path().display()));
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(dir.path().join("bascule-network-create.1").exists());
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let binary = env!("CARGO_BIN_EXE_bascule");
    let output = Command::new("sh")
        .args(["-c", &format!("{{ {binary} completion bash; echo $? >&2; }} | true")])
        .output()
        .expect("a shell");
    assert_eq!(stderr(&output).trim(), "0");
}
