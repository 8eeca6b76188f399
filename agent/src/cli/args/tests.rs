//! Lines that are understood, and lines that are not.

use std::net::Ipv4Addr;

use clap::{CommandFactory, Parser};

use super::*;

fn parse(line: &str) -> Result<Args, clap::Error> {
    Args::try_parse_from(["bascule"].into_iter().chain(line.split_whitespace()))
}

fn run(line: &str) -> Run {
    match parse(line).unwrap_or_else(|error| panic!("{line}: {error}")).verb {
        Verb::Run(run) => *run,
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn the_definition_holds() {
    Args::command().debug_assert();
}

#[test]
fn run_takes_dockers_flags() {
    let run = run("run --rm -itd --name c1 --net blue --network red --ip 172.25.3.3 -p 8080:80 \
         --publish 53:53/udp -P --expose 80 --expose 443/tcp --link c2:db -h c1.lan -e A=1 \
         -w /tmp --label a=b -l c --network-alias app -- sh -c exit");
    let sandbox = &run.sandbox;
    assert!(sandbox.rm && sandbox.publish_all);
    assert!(run.execution.detach && run.execution.interactive && run.execution.tty);
    assert_eq!(sandbox.name.as_deref(), Some("c1"));
    assert_eq!(sandbox.network, ["blue", "red"]);
    assert_eq!(sandbox.ip, Some(Ipv4Addr::new(172, 25, 3, 3)));
    assert_eq!(sandbox.publish, ["8080:80", "53:53/udp"]);
    assert_eq!(sandbox.expose, ["80", "443/tcp"]);
    assert_eq!(sandbox.link, ["c2:db"]);
    assert_eq!(sandbox.hostname.as_deref(), Some("c1.lan"));
    assert_eq!(sandbox.network_alias, ["app"]);
    assert_eq!(sandbox.label.len(), 2);
    assert_eq!(run.execution.env, ["A=1"]);
    assert_eq!(run.execution.workdir.as_deref(), Some("/tmp".as_ref()));
    assert_eq!(run.command, ["sh", "-c", "exit"]);
    assert!(run.image.is_none() && run.words.is_empty());
}

#[test]
fn words_of_dockers_images_are_caught_with_their_flags() {
    let run_line = run("run -itd --net bluenet --name c1 busybox sh -c ls");
    assert_eq!(run_line.image.as_deref(), Some("busybox".as_ref()));
    assert_eq!(run_line.words, ["sh", "-c", "ls"]);
    assert!(run_line.command.is_empty());
    assert!(run("run busybox -- sh").image.is_some());
    // What a flag takes may stand right behind it.
    let run_line = run("run -dp8080:80 -p127.0.0.1:53:53/udp -lkey=value -- sh -p1");
    assert_eq!(run_line.sandbox.publish, ["8080:80", "127.0.0.1:53:53/udp"]);
    assert_eq!(run_line.command, ["sh", "-p1"]);
    match parse("create -it --net bluenet --name c1 busybox sh").expect("good").verb {
        Verb::Create(create) => {
            assert_eq!((create.image.is_some(), create.words), (true, vec!["sh".into()]));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_brought_namespace_is_one_or_the_other() {
    assert_eq!(run("run -d --netns /run/netns/x").sandbox.netns, Some("/run/netns/x".into()));
    assert_eq!(run("run -d --pid 7").sandbox.pid, Some(7));
    assert!(parse("run -d --pid 7 --netns x").is_err());
}

#[test]
fn exec_takes_its_command_with_and_without_dashes() {
    for line in ["exec -it c1 ip -s link", "exec -i -t c1 -- ip -s link"] {
        match parse(line).expect(line).verb {
            Verb::Exec(exec) => {
                assert_eq!(exec.container, "c1");
                assert_eq!(exec.command, ["ip", "-s", "link"], "{line}");
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(parse("exec c1").is_err());
}

#[test]
fn s2_network_create_takes_dockers_flags() {
    let line = "network create -d bridge --subnet=172.26.0.0/16 --gateway 172.26.0.2 --internal \
                -o com.docker.network.bridge.enable_icc=false --opt a.b=c=d --label x --ipv6 n1";
    match parse(line).expect("good").verb {
        Verb::Network(Network::Create(create)) => {
            assert_eq!((create.name.as_str(), create.driver.as_str()), ("n1", "bridge"));
            assert_eq!((create.internal, create.ipv6, create.ipv4), (true, Some(true), None));
            assert_eq!(create.options[0].value, "false");
            assert_eq!(create.options[1].value, "c=d");
            assert!(!create.label[0].has_value);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn s18_every_verb_of_dockers_has_its_spelling() {
    for line in [
        "network ls -q --no-trunc --filter name=a -f driver=bridge",
        "network list --format {{.Name}}",
        "network inspect a b -f {{.Id}}",
        "network rm a b",
        "network connect --ip 10.0.0.2 --alias db --link c4:bar n c",
        "network disconnect -f n c",
        "container create --name c1 --network n1",
        "container start c1 c2",
        "container stop c1",
        "stop -t 0 c1 c2",
        "container rm -f c1",
        "container ls -a",
        "container ps -aq",
        "container inspect c1 --format {{.Id}}",
        "container exec c1 true",
        "container run --name c1 -- true",
        "container port c1 80/tcp",
        "ps -a --no-trunc",
        "port",
        "port c1",
        "inspect --type network bridge",
        "start c1",
        "stop c1",
        "rm -f c1",
        "status --output json",
        "--output json status",
        "--run-dir /x ps",
        "ps --run-dir /x",
        "completion bash",
        "completion zsh",
        "man",
        "man --dir /x",
    ] {
        parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
    }
}

#[test]
fn nonsense_is_a_usage_error() {
    for line in [
        "",
        "nope",
        "network",
        "network create",
        "network create --subnet x n",
        "network create -o =x n",
        "network rm",
        "container start",
        "run --ip x -- true",
        "run --pid x -- true",
        "ps --output xml",
        "completion csh",
        "agent --metrics-listen x",
        "agent --ip-forward=maybe",
    ] {
        let error = parse(line).expect_err(line);
        assert_eq!(error.exit_code(), 2, "{line}");
    }
}

#[test]
fn the_agent_takes_its_places() {
    let line = "agent --state-dir /s --run-dir /r --bpffs /b --cgroup /c \
                --metrics-listen 127.0.0.1:0 --uplink eth*,up0 --uplink x --bridge none \
                --ip-forward=false --log-format json --log-level debug";
    let args = parse(line).expect("good");
    assert_eq!(args.global.run_dir, Some("/r".into()));
    match args.verb {
        Verb::Agent(agent) => {
            let options = agent.options;
            assert_eq!(options.state_dir, Some("/s".into()));
            assert_eq!(options.uplink, ["eth*", "up0", "x"]);
            assert_eq!(options.ip_forward, Some(false));
            assert_eq!(options.bridge.as_deref(), Some("none"));
            assert_eq!(options.log_format, Some(LogFormat::Json));
            assert!(agent.verb.is_none());
        }
        other => panic!("{other:?}"),
    }
    for line in ["agent --state-dir /s cleanup --purge", "agent cleanup --purge --state-dir /s"] {
        match parse(line).expect(line).verb {
            Verb::Agent(agent) => {
                assert!(matches!(agent.verb, Some(AgentVerb::Cleanup { purge: true })));
                assert_eq!(agent.options.state_dir, Some("/s".into()), "{line}");
            }
            other => panic!("{other:?}"),
        }
    }
}
