//! `bascule monitor` on a terminal, and what there is while nobody watches.

use bascule_tests::{
    Agent,
    terminal::Terminal,
    traffic::{self, TcpServer},
    wait,
};

use crate::stage;

/// How many connections are counted of which nobody may ask any more.
fn counted(agent: &Agent) -> usize {
    let pin = agent.places.bpffs().join("v2/maps/TRAFFIC4");
    agent.host.sh(&format!("bpftool map dump pinned {}", pin.display())).matches("\"key\"").count()
}

#[test]
fn p80_lines_have_colours_on_a_terminal_where_they_are_wanted() {
    let (agent, _net) = stage();
    for wanted in [true, false] {
        let mut command = agent.bascule();
        command.args(["monitor", "--type", "lifecycle"]).env("TERM", "xterm");
        match wanted {
            true => command.env_remove("NO_COLOR"),
            false => command.env("NO_COLOR", "1"),
        };
        let screen = Terminal::start(&mut command, 24, 120);
        let mut made = 0;
        wait::wait_until("a line for a network", wait::SOON, || {
            made += 1;
            agent.network(&format!("n-{wanted}-{made}"), "");
            screen.text().contains(" lifecycle network n-")
        });
        assert_eq!(screen.has_colours(), wanted, "{}", screen.text());
        drop(screen);
    }
}

#[test]
fn p80_connections_are_counted_while_somebody_watches_and_no_longer() {
    let (agent, _net) = stage();
    let web = agent.container("web", "n1", "");
    let client = agent.container("client", "n1", "");
    let _server = TcpServer::start(&web.ns, 80);
    let talk = || traffic::reaches(&client.ns, std::net::SocketAddrV4::new(web.address(), 80));
    talk();
    let unwatched = counted(&agent);
    let mut command = agent.bascule();
    command.args(["monitor", "--type", "close"]).env("TERM", "xterm");
    let screen = Terminal::start(&mut command, 24, 160);
    wait::wait_until("a connection that is counted", wait::START, || {
        talk();
        counted(&agent) > unwatched && screen.text().contains("client ")
    });
    drop(screen);
    wait::wait_equal("what was counted is forgotten", wait::START, &unwatched, || counted(&agent));
    talk();
    assert_eq!(counted(&agent), unwatched);
}
