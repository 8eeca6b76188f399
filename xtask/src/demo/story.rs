//! What is shown, in order. Every chapter says what it claims, runs it, and checks it.

use std::{
    process::Child,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{
    show::{self, Answer, Show},
    stage::{HOST, OUTSIDE, Stage},
};
use crate::ui;

const READY: Duration = Duration::from_secs(20);
const ICC_OFF: &str = "com.docker.network.bridge.enable_icc=false";
/// Seconds that the undisturbed transfer takes.
const TRANSFER: u64 = 8;

/// A storyteller: what there is to show with, and whom to show.
struct Teller<'a> {
    show: &'a mut Show,
    stage: &'a Stage,
    agent: Option<Child>,
}

/// Tells it from beginning to end.
pub fn tell(show: &mut Show, stage: &Stage) -> Result<()> {
    let mut teller = Teller { show, stage, agent: None };
    teller.agent()?;
    teller.networks()?;
    teller.walls()?;
    teller.links()?;
    teller.published()?;
    teller.masquerade()?;
    teller.no_rules()?;
    teller.docker()?;
    teller.killed()?;
    teller.counters()
}

impl Teller<'_> {
    /// Runs a line at a place and shows it.
    fn run(&mut self, place: &str, line: &str) -> Result<Answer> {
        let mut command = self.stage.at(place, "sh");
        command.args(["-c", line]);
        self.show.run(place, line, command)
    }

    /// Runs a line that has to succeed for the story to go on.
    fn must(&mut self, place: &str, line: &str) -> Result<String> {
        let answer = self.run(place, line)?;
        if !answer.fine {
            bail!("`{line}` failed");
        }
        Ok(answer.text)
    }

    /// Runs a line unseen.
    fn unseen(&self, place: &str, line: &str) -> Result<Answer> {
        let mut command = self.stage.at(place, "sh");
        command.args(["-c", line]);
        show::quietly(command)
    }

    /// Starts a line in the background and shows it.
    fn background(&mut self, place: &str, line: &str, log: &str) -> Result<Child> {
        self.show.prompt(place, &format!("{line} > {log}.log &"));
        // `exec`: the child is the program itself, which signals reach.
        let mut command = self.stage.at(place, "sh");
        command.args(["-c", &format!("exec {line}")]);
        self.stage.spawn(command, log)
    }

    /// The address of a container on a network.
    fn address(&self, container: &str, network: &str) -> Result<String> {
        let answer = self.unseen("host", &format!("bascule container inspect {container}"))?;
        let json: serde_json::Value =
            serde_json::from_str(&answer.text).context("inspect does not print JSON")?;
        json.pointer(&format!("/0/NetworkSettings/Networks/{network}/IPAddress"))
            .and_then(serde_json::Value::as_str)
            .filter(|address| !address.is_empty())
            .map(str::to_owned)
            .with_context(|| format!("{container} has no address on {network}"))
    }

    /// The sum of a metric's samples whose labels contain all of these.
    fn metric(&self, name: &str, labels: &[&str]) -> Result<f64> {
        let answer = self.unseen("host", "curl -sS http://127.0.0.1:9477/metrics")?;
        Ok(sum(&answer.text, name, labels))
    }

    fn start_agent(&mut self) -> Result<()> {
        let mut agent = self.background("host", "bascule agent", "agent")?;
        let answers = show::until("the agent answers", READY, || {
            if let Some(status) = agent.try_wait()? {
                bail!("the agent has ended: {status}");
            }
            let mut status = self.stage.at("host", "bascule");
            status.arg("status");
            Ok(show::quietly(status)?.fine)
        });
        self.agent = Some(agent);
        answers
    }

    fn agent(&mut self) -> Result<()> {
        ui::step("an agent, with directories of its own");
        self.start_agent()?;
        let status = self.run("host", "bascule status")?;
        self.show.check(status.fine, "the agent answers, and nothing is amiss");
        Ok(())
    }

    fn networks(&mut self) -> Result<()> {
        ui::step("two networks, three containers");
        self.must("host", "bascule network create blue")?;
        self.must("host", "bascule network create --subnet 10.99.0.0/24 green")?;
        let list = self.must("host", "bascule network ls")?;
        self.show.check(list.contains("blue") && list.contains("green"), "both are there");
        self.must("host", "bascule run -d --name c1 --network blue")?;
        self.must("host", "bascule run -d --name c2 --network blue")?;
        self.must("host", "bascule run -d --name c3 --network green")?;
        self.must("host", "bascule ps")?;
        let address = self.address("c2", "blue")?;
        let ping = self.run("host", &format!("bascule exec c1 ping -c 3 -i 0.2 -W 1 {address}"))?;
        let all = ping.text.contains(" 3 received");
        self.show.check(all, "c1 reaches c2, on the same network, by address");
        let ping = self.run("host", "bascule exec c1 ping -c 1 -W 2 c2")?;
        let named = ping.fine && ping.text.contains(&format!("PING c2 ({address})"));
        self.show.check(named, "and by name, which the agent resolves");
        Ok(())
    }

    fn walls(&mut self) -> Result<()> {
        ui::step("walls: networks are isolated");
        let address = self.address("c3", "green")?;
        let ping = self.run("host", &format!("bascule exec c1 ping -c 3 -i 0.2 -W 1 {address}"))?;
        let none = !ping.fine && ping.text.contains(" 0 received");
        self.show.check(none, "c1 does not reach c3, on the other network");
        let line = "curl -s 127.0.0.1:9477/metrics | grep 'drops_total.*policy_isolation'";
        let drops = self.run("host", line)?;
        let counted = sum(&drops.text, "bascule_endpoint_drops_total", &["container=\"c1\""]);
        self.show.check(counted >= 3.0, "the drops are counted, with their reason");
        Ok(())
    }

    fn links(&mut self) -> Result<()> {
        ui::step("inter-container communication off, and a link that opens one port");
        self.must("host", &format!("bascule network create -o {ICC_OFF} quiet"))?;
        let serve =
            "bascule run --name db --network quiet --expose 5432/tcp -- python3 server.py db 5432";
        self.background("host", serve, "db")?;
        self.wait_for_container("db")?;
        self.background_exec("db", "python3 server.py db 5433", "db-other")?;
        self.must("host", "bascule run -d --name app --network quiet --link db:db")?;
        self.must("host", "bascule run -d --name stranger --network quiet")?;
        let db = self.address("db", "quiet")?;
        self.wait_for_server("db", "127.0.0.1:5432")?;
        self.wait_for_server("db", "127.0.0.1:5433")?;
        let linked =
            self.run("host", &format!("bascule exec app curl -sS -m 2 http://{db}:5432/"))?;
        self.show.check(linked.text.contains("this is db"), "the link opens the exposed port");
        let other =
            self.run("host", &format!("bascule exec app curl -sS -m 1 http://{db}:5433/"))?;
        self.show.check(!other.fine, "and no other port");
        let line = format!("bascule exec stranger curl -sS -m 1 http://{db}:5432/");
        let stranger = self.run("host", &line)?;
        self.show.check(!stranger.fine, "and not to a container without the link");
        let line = "curl -s 127.0.0.1:9477/metrics | grep 'drops_total.*policy_icc'";
        let drops = self.run("host", line)?;
        let by = |who| sum(&drops.text, "bascule_endpoint_drops_total", &[who]);
        let counted = by("container=\"app\"") > 0.0 && by("container=\"stranger\"") > 0.0;
        self.show.check(counted, "both drops are counted, with their reason");
        Ok(())
    }

    fn published(&mut self) -> Result<()> {
        ui::step("a published port, and the client's own address");
        let serve = "bascule run --name web --network blue -p 8080:80 -- python3 server.py web 80";
        self.background("host", serve, "web")?;
        self.wait_for_container("web")?;
        self.wait_for_server("web", "127.0.0.1:80")?;
        let ports = self.must("host", "bascule port web")?;
        self.show.check(ports.contains("80/tcp -> 0.0.0.0:8080"), "the port is listed");
        let answer = self.run("outside", &format!("curl -sS -m 5 http://{HOST}:8080/"))?;
        self.show.check(answer.text.contains("this is web"), "someone outside reaches it");
        let log = self.run("host", "cat web.log")?;
        let line = log.text.lines().find(|line| line.contains("GET /") && line.contains(OUTSIDE));
        self.show.check(line.is_some(), "the server's log has the client's own address");
        Ok(())
    }

    fn masquerade(&mut self) -> Result<()> {
        ui::step("the way out: masquerade");
        self.background("outside", "python3 server.py world 80", "world")?;
        let stage = self.stage;
        show::until("the server outside answers", READY, || {
            let mut curl = stage.at("outside", "curl");
            curl.args(["-s", "-m", "1", &format!("http://{OUTSIDE}/")]);
            Ok(show::quietly(curl)?.fine)
        })?;
        let answer =
            self.run("host", &format!("bascule exec c1 curl -sS -m 5 http://{OUTSIDE}/"))?;
        let masked = answer.text.contains(&format!("this is world; you are {HOST}"));
        self.show.check(masked, "a container reaches the outside, which sees the host's address");
        let line = format!("bascule exec c1 ping -c 2 -i 0.2 -W 1 {OUTSIDE}");
        let ping = self.run("host", &line)?;
        self.show.check(ping.text.contains(" 2 received"), "ping passes, too");
        Ok(())
    }

    fn no_rules(&mut self) -> Result<()> {
        ui::step("no rules in iptables or nftables");
        for line in ["iptables-save", "nft list ruleset"] {
            let answer = self.run("host", line)?;
            let empty = answer.fine && answer.text.trim().is_empty();
            self.show.check(empty, &format!("`{line}` prints nothing"));
        }
        Ok(())
    }

    fn docker(&mut self) -> Result<()> {
        ui::step("Docker's own client, talking to the agent");
        self.show.prompt("host", "export DOCKER_HOST=unix://$BASCULE_RUN_DIR/bascule.sock");
        self.must("host", "docker network create --subnet 10.77.0.0/24 gold")?;
        self.must("host", "docker network connect gold c1")?;
        let list = self.must("host", "docker network ls")?;
        let names = ["bridge", "host", "none", "blue", "green", "gold"];
        self.show.check(names.iter().all(|name| list.contains(name)), "it lists the networks");
        let list = self.must("host", "docker ps")?;
        self.show.check(list.contains("0.0.0.0:8080->80/tcp"), "and containers with their ports");
        let port = self.must("host", "docker port web")?;
        self.show.check(port.contains("80/tcp -> 0.0.0.0:8080"), "one by one, too");
        let line = "docker network inspect -f '{{range .Containers}}{{.Name}} {{.IPv4Address}}{{end}}' gold";
        let inspected = self.must("host", line)?;
        self.show.check(inspected.contains("c1 10.77.0.2/24"), "it says who is on a network");
        self.must("host", "docker network disconnect gold c1")?;
        self.must("host", "docker network rm gold")?;
        let line = "docker events --since 10m --until $(date +%s.%N) --filter network=gold";
        let told = self.must("host", line)?;
        let story = ["network create", "network connect", "network disconnect", "network destroy"];
        let mut lines = told.lines();
        let in_order = story.iter().all(|word| lines.any(|line| line.contains(word)));
        self.show.check(in_order, "and it hears what has happened, in order");
        Ok(())
    }

    fn killed(&mut self) -> Result<()> {
        ui::step("the agent dies in the middle of a transfer");
        let serve = "bascule run --name bulk --network blue -p 5201:5201 -- iperf3 -s --forceflush";
        self.background("host", serve, "bulk")?;
        self.wait_for_container("bulk")?;
        let stage = self.stage;
        show::until("iperf3 listens", READY, || Ok(stage.said("bulk").contains("listening")))?;
        let line = format!("iperf3 -c {HOST} -t {TRANSFER} -i 1 --forceflush");
        let since = Instant::now();
        let mut transfer = self.background("outside", &line, "transfer")?;
        pause_until(since, 2);
        let agent = self.agent.take().context("there is no agent to kill")?;
        self.kill_agent(agent)?;
        let away = self.run("host", "bascule ps")?;
        self.show.check(!away.fine, "the agent is gone");
        let fresh = self.run("outside", &format!("curl -sS -m 5 http://{HOST}:8080/"))?;
        self.show.check(fresh.fine, "new connections are served without it");
        pause_until(since, 4);
        self.start_agent()?;
        ui::note("the new agent has put its own programs onto the live interfaces");
        let ended = show::wait(&mut transfer, Duration::from_secs(TRANSFER + 20))?;
        let log = self.stage.said("transfer");
        self.show.prompt("outside", "cat transfer.log");
        self.show.text(&log);
        let moved = intervals(&log);
        let steady = moved.len() >= usize::try_from(TRANSFER)? && moved.iter().all(|on| *on);
        self.show.check(ended.success() && steady, "the transfer ran on, every second of it");
        let list = self.must("host", "bascule ps")?;
        let all = ["c1", "c2", "c3", "web"].iter().all(|name| list.contains(name));
        self.show.check(all, "the new agent knows every container");
        Ok(())
    }

    fn kill_agent(&mut self, mut agent: Child) -> Result<()> {
        self.show.prompt("host", &format!("kill -9 {}", agent.id()));
        kill(Pid::from_raw(i32::try_from(agent.id())?), Signal::SIGKILL)?;
        agent.wait()?;
        Ok(())
    }

    fn counters(&mut self) -> Result<()> {
        ui::step("the counters");
        let line = "curl -s 127.0.0.1:9477/metrics | grep 'container=\"web\"' | grep -v ' 0$'";
        self.run("host", line)?;
        let sent = self.metric("bascule_endpoint_bytes_total", &["container=\"c1\"", "\"out\""])?;
        let got = self.metric("bascule_endpoint_bytes_total", &["container=\"bulk\"", "\"in\""])?;
        self.show.check(sent > 0.0 && got > 1e6, "bytes and packets are counted by container");
        let port = self.metric("bascule_port_bytes_total", &["host_port=\"8080\""])?;
        self.show.check(port > 0.0, "and by published port");
        let lint = "curl -s 127.0.0.1:9477/metrics | promtool check metrics";
        let clean = self.run("host", lint)?;
        self.show.check(clean.fine && clean.text.trim().is_empty(), "promtool has no complaint");
        Ok(())
    }

    /// Starts a command in a container, unseen by the agent.
    fn background_exec(&mut self, container: &str, line: &str, log: &str) -> Result<Child> {
        self.background("host", &format!("bascule exec {container} {line}"), log)
    }

    fn wait_for_container(&self, name: &str) -> Result<()> {
        show::until(&format!("{name} runs"), READY, || {
            Ok(self.unseen("host", &format!("bascule exec {name} true"))?.fine)
        })
    }

    fn wait_for_server(&self, container: &str, address: &str) -> Result<()> {
        show::until(&format!("the server in {container} answers"), READY, || {
            let line = format!("bascule exec {container} curl -s -m 1 http://{address}/");
            Ok(self.unseen("host", &line)?.fine)
        })
    }
}

/// Sleeps until so many seconds after a moment: the story's own time, nothing waits for this.
fn pause_until(since: Instant, seconds: u64) {
    thread::sleep(Duration::from_secs(seconds).saturating_sub(since.elapsed()));
}

/// Sums the samples of a metric whose labels contain all of these, in Prometheus' text format.
fn sum(text: &str, name: &str, labels: &[&str]) -> f64 {
    text.lines()
        .filter_map(|line| line.strip_prefix(name)?.strip_prefix('{')?.split_once("} "))
        .filter(|(given, _)| labels.iter().all(|label| given.contains(label)))
        .filter_map(|(_, value)| value.parse::<f64>().ok())
        .sum()
}

/// Whether anything was moved, second by second, in iperf3's report.
fn intervals(report: &str) -> Vec<bool> {
    report
        .lines()
        .take_while(|line| !line.starts_with("- - -"))
        .filter(|line| line.contains(" sec ") && line.contains("bits/sec"))
        .map(|line| !line.contains(" 0.00 Bytes"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_summed_by_their_labels() {
        let text = "# HELP a b\na{x=\"1\",y=\"in\"} 3\na{x=\"1\",y=\"out\"} 4\na{x=\"2\"} 5\nab{x=\"1\"} 9\n";
        assert!((sum(text, "a", &["x=\"1\""]) - 7.0).abs() < 1e-9);
        assert!((sum(text, "a", &["x=\"1\"", "\"in\""]) - 3.0).abs() < 1e-9);
    }

    #[test]
    fn a_second_without_bytes_is_noticed() {
        let report = "\
[ ID] Interval           Transfer     Bitrate         Retr  Cwnd
[  5]   0.00-1.00   sec  2.50 GBytes  21.5 Gbits/sec    0   1.2 MBytes
[  5]   1.00-2.00   sec  0.00 Bytes  0.00 bits/sec    0   1.2 MBytes
- - - - - - - - - - - - - - - - - - - - - - - - -
[  5]   0.00-2.00   sec  2.50 GBytes  10.7 Gbits/sec    0             sender
";
        assert_eq!(intervals(report), [true, false]);
    }
}
