//! The flow log, and `bascule flows`: what was is found again.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::Stdio,
};

use bascule_tests::{
    Agent, Topology,
    agent::Settings,
    places::Places,
    process,
    topology::HOST,
    traffic::{self, TcpServer},
    wait,
};
use serde_json::Value;

use crate::{
    Stage, at,
    monitor::{Monitor, is},
};

/// A host whose agent keeps a flow log, with a network `n1`.
struct Logged {
    stage: Stage,
    log: PathBuf,
    _places: Places,
}

impl Logged {
    fn start() -> Self {
        let net = Topology::new();
        let places = Places::new();
        let log = places.root().join("flows.jsonl");
        let settings = Settings::default().arg(&["--flow-log", &log.display().to_string()]);
        let stage = Stage { agent: Agent::start_with(&net.host, settings), net };
        stage.agent.network("n1", "");
        Self { stage, log, _places: places }
    }

    fn has(&self, wanted: impl Fn(&Value) -> bool) -> bool {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).any(|seen| wanted(&seen))
    }

    /// What `bascule flows` shows of it.
    fn flows(&self, args: &str) -> Vec<Value> {
        let file = self.log.display();
        let text = self.stage.agent.ok(&format!("flows --file {file} -o json {args}"));
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }
}

#[test]
fn n48_p81_connections_that_have_ended_are_in_a_log_on_disk() {
    let logged = Logged::start();
    let stage = &logged.stage;
    let web = stage.agent.container("web", "n1", "-p 8080:80");
    let _server = TcpServer::start(&web.ns, 80);
    wait::wait_until("a line for a connection", wait::START, || {
        traffic::reaches(&stage.net.outside, at(HOST, 8080));
        logged.has(|seen| {
            is(seen, &[("Type", "close"), ("From", "outside"), ("To", "web"), ("End", "closed")])
                && seen["Opened"].is_string()
        })
    });
}

#[test]
fn p81_the_log_is_read_back_by_whom_when_and_what() {
    let logged = Logged::start();
    let stage = &logged.stage;
    stage.agent.network("n2", "--subnet 10.88.0.0/24");
    let web = stage.agent.container("web", "n1", "");
    let other = stage.agent.container("other", "n2", "");
    let client = stage.agent.container("client", "n1", "");
    let _server = TcpServer::start(&web.ns, 80);
    let follow = format!("--file {} --follow -o json --type close", logged.log.display());
    let follower = Monitor::of("flows", &stage.agent, "follower", &follow);
    wait::wait_until("a connection and a drop are logged", wait::START, || {
        traffic::reaches(&client.ns, at(web.address(), 80));
        drop(traffic::ping(&other.ns, web.address(), 1));
        logged.has(|seen| is(seen, &[("Type", "close"), ("To", "web")]))
            && logged.has(|seen| is(seen, &[("Type", "drop"), ("From", "other")]))
    });
    let closes = logged.flows("--type close --from client --to web --port 80 --proto tcp");
    assert!(
        !closes.is_empty() && closes.iter().all(|seen| seen["SentPackets"].as_u64() >= Some(4)),
        "{closes:?}"
    );
    let drops = logged.flows("--verdict dropped --related-to web");
    assert!(
        !drops.is_empty()
            && drops.iter().all(|seen| is(seen, &[("Type", "drop"), ("From", "other")])),
        "{drops:?}"
    );
    assert_eq!(logged.flows("--from nobody"), [] as [Value; 0]);
    assert_eq!(logged.flows("--type policy"), drops);

    // By time: each is where its own time says, and the last is the last.
    let all = logged.flows("");
    let last = all.last().expect("one");
    assert_eq!(logged.flows("--last 1"), std::slice::from_ref(last));
    let time = last["Time"].as_str().expect("a time");
    assert!(logged.flows(&format!("--since {time}")).contains(last));
    assert!(!logged.flows(&format!("--until {time}")).contains(last));
    assert_eq!(logged.flows("--since 1h"), all);
    assert_eq!(logged.flows("--until 1h"), [] as [Value; 0]);

    // Whoever follows has all there was, and all that comes; for people there are lines.
    let _later = TcpServer::start(&web.ns, 81);
    let to = format!("{}:81", web.address());
    follower.expect(
        "a later connection",
        || {
            traffic::reaches(&client.ns, at(web.address(), 81));
        },
        |seen| is(seen, &[("Type", "close"), ("Destination", &to)]),
    );
    assert!(follower.text().lines().next().is_some_and(|line| line.contains(":80\"")));
    let file = logged.log.display();
    let text = stage.agent.ok(&format!("flows --file {file} --type close --to web --last 1"));
    assert!(text.contains(" close     client ") && text.contains(" -> web "), "{text}");
    assert!(text.contains(" packets (") && text.starts_with("20"), "{text}");
}

#[test]
fn p81_a_log_that_is_not_there_or_not_ours_is_said() {
    let logged = Logged::start();
    let agent = &logged.stage.agent;
    let out = agent.cli(["flows", "--file", "/nowhere/flows.jsonl"]);
    assert_eq!(out.code, 1, "{out:?}");
    assert!(out.stderr.contains("cannot read the flow log /nowhere/flows.jsonl"), "{out:?}");
    assert!(out.stderr.contains("--flow-log"), "{out:?}");
    let strange = agent.places.root().join("strange");
    fs::write(&strange, b"what?\n\xff\xfe\n{\"Time\":\"x\",\"Type\":\"drop\"}\n{}\nno end")
        .expect("a file");
    let strange = strange.display().to_string();
    let out = agent.cli(["flows", "--file", &strange]);
    assert_eq!((out.code, out.stdout.as_str()), (0, ""), "{out:?}");
    assert!(out.stderr.contains("4 lines that are no events"), "{out:?}");
    for wrong in [["--since", "soon"], ["--port", "http"], ["--type", "open"], ["--reason", "x"]] {
        let out = agent.cli(["flows", "--file", &strange].into_iter().chain(wrong));
        assert_eq!((out.code, out.stdout.as_str()), (2, ""), "{wrong:?}: {out:?}");
    }
}

#[test]
fn p81_p80_who_has_read_enough_is_not_told_more() {
    let logged = Logged::start();
    let stage = &logged.stage;
    let web = stage.agent.container("web", "n1", "");
    let client = stage.agent.container("client", "n1", "");
    let _server = TcpServer::start(&web.ns, 80);
    let file = logged.log.display().to_string();
    for verb in [&["flows", "--follow", "--file", &file][..], &["monitor"]] {
        let mut command = stage.agent.bascule();
        command.args(verb).args(["-o", "json"]).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("bascule");
        let mut reader = BufReader::new(child.stdout.take().expect("its output"));
        let mut reading = Some(std::thread::spawn(move || reader.read_line(&mut String::new())));
        wait::wait_until("the reader has had a line, and bascule has ended", wait::START, || {
            traffic::reaches(&client.ns, at(web.address(), 80));
            if reading.as_ref().is_some_and(std::thread::JoinHandle::is_finished) {
                let read = reading.take().expect("it").join().expect("a line").expect("a line");
                assert!(read > 0, "{verb:?}");
            }
            child.try_wait().expect("a child").is_some()
        });
        let ended = process::wait(&mut child, wait::SOON).expect("it has ended");
        assert!(ended.success(), "{verb:?}: {ended:?}");
    }
}
