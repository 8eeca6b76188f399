//! The view without a terminal: readings and keys come in, and a screen of cells is looked at.

use ratatui::{
    Terminal,
    backend::TestBackend,
    crossterm::event::{KeyCode, KeyEvent, KeyModifiers},
};

use super::{
    draw::{Looks, draw},
    view::{Reading, Step, View, Wanted},
};
use crate::{
    api::{
        flows::{Connection, Connections},
        traffic::{Amount, Traffic, TrafficDrop, TrafficEndpoint, TrafficPort},
    },
    cli::args::Page,
};

const PLAIN: Looks = Looks { colours: false, unicode: false };

fn amount(packets: f64, bytes: f64) -> Amount {
    let (packet_rate, byte_rate) = (Some(packets), Some(bytes));
    Amount { packets: packets as u64, bytes: bytes as u64, packet_rate, byte_rate }
}

fn endpoint(container: &str, network: &str, received: f64, dropped: f64) -> TrafficEndpoint {
    let drop = TrafficDrop {
        direction: "out".into(),
        reason: "policy_isolation".into(),
        explanation: "The destination is on another network.".into(),
        dropped: amount(dropped, dropped * 84.0),
    };
    TrafficEndpoint {
        id: format!("id-{container}"),
        container: container.into(),
        container_id: "feedfacecafe".into(),
        network: network.into(),
        addresses: vec!["172.18.0.2".into(), "fd00::2".into()],
        interface: "eth0".into(),
        host_interface: "veth1".into(),
        received: amount(received / 1_000.0, received),
        sent: amount(1.0, 100.0),
        dropped: drop.dropped,
        drops: if dropped > 0.0 { vec![drop] } else { Vec::new() },
        connections: 1,
        ..TrafficEndpoint::default()
    }
}

fn traffic() -> Traffic {
    let port = TrafficPort {
        container: "web".into(),
        network: "blue".into(),
        host_ip: "0.0.0.0".into(),
        host_port: "8080".into(),
        container_port: "80".into(),
        proto: "tcp".into(),
        received: amount(1.0, 2_000.0),
        active: 3,
        opened: 17,
        ..TrafficPort::default()
    };
    Traffic {
        started_at: "2026-01-02T03:04:05Z".into(),
        endpoints: vec![
            endpoint("app", "blue", 1_500.0, 0.0),
            endpoint("bulk", "green", 2_500_000.0, 4.0),
            endpoint("web", "blue", 20_000.0, 0.0),
        ],
        ports: vec![port],
        ports_total: 1,
        connections: 3,
        ..Traffic::default()
    }
}

fn connections() -> Connections {
    let connection = Connection {
        proto: "tcp".into(),
        from: "outside".into(),
        source: "198.51.100.7:40000".into(),
        to: "web".into(),
        destination: "203.0.113.10:8080".into(),
        state: "open".into(),
        kind: "published".into(),
        ..Connection::default()
    };
    Connections { connections: vec![connection], total: 1 }
}

fn view(page: Page) -> View {
    let mut view = View::new(page, "");
    view.take(Reading::Good(Box::new(traffic()), Some(connections())));
    view
}

/// Types keys; letters stand for themselves.
fn keys(view: &mut View, codes: &[KeyCode]) {
    for code in codes {
        assert_eq!(view.key(KeyEvent::new(*code, KeyModifiers::NONE)), Step::Stay, "{code}");
    }
}

fn screen(view: &View, looks: Looks, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a screen");
    terminal.draw(|frame| draw(view, looks, frame)).expect("drawn");
    let buffer = terminal.backend().buffer();
    let line = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
    (0..height).map(|y| line(y).trim_end().to_owned()).collect()
}

/// First words of the rows of a page.
fn order(view: &View) -> Vec<String> {
    let lines = screen(view, PLAIN, 80, 24);
    let rows = lines.iter().skip(3).take_while(|line| !line.is_empty());
    rows.filter_map(|line| line.split_whitespace().next().map(str::to_owned)).collect()
}

#[test]
fn endpoints_are_sorted_by_what_they_receive_and_by_what_is_asked_for() {
    let mut view = view(Page::Endpoints);
    let shown = screen(&view, PLAIN, 80, 24);
    assert!(shown[0].contains("3 endpoints  in 2.5MB/s"), "{shown:?}");
    assert!(shown[0].contains("drops 4/s"), "{shown:?}");
    assert!(shown[2].contains("IN B/s-") && !shown[2].contains("ADDRESS"), "{shown:?}");
    assert!(shown[3].contains("2.5M") && shown[3].contains("green"), "{shown:?}");
    assert_eq!(order(&view), ["bulk", "web", "app"]);
    keys(&mut view, &[KeyCode::Char('r')]);
    assert_eq!(order(&view), ["app", "web", "bulk"]);
    // Back to the names, which begin with the first.
    keys(&mut view, &[KeyCode::Char('<'); 3]);
    assert_eq!(order(&view), ["app", "bulk", "web"]);
    let wide = screen(&view, PLAIN, 120, 24);
    assert!(wide[2].contains("ADDRESS") && wide[3].contains("172.18.0.2"), "{wide:?}");
}

#[test]
fn what_is_typed_narrows_down_and_esc_shows_all_again() {
    let mut view = view(Page::Endpoints);
    keys(&mut view, &[KeyCode::Char('/'), KeyCode::Char('G'), KeyCode::Char('r')]);
    assert!(screen(&view, PLAIN, 80, 24)[22].starts_with("/Gr_"));
    keys(&mut view, &[KeyCode::Enter]);
    assert_eq!(order(&view), ["bulk"]);
    keys(&mut view, &[KeyCode::Char('/'), KeyCode::Char('x'), KeyCode::Enter]);
    assert!(screen(&view, PLAIN, 80, 24)[3].contains("nothing that contains this"));
    keys(&mut view, &[KeyCode::Esc]);
    assert_eq!(order(&view).len(), 3);
    // A letter that means something else is only a letter while a filter is typed.
    keys(&mut view, &[KeyCode::Char('/'), KeyCode::Char('q'), KeyCode::Esc]);
}

#[test]
fn pages_show_drops_connections_and_ports() {
    let mut view = view(Page::Endpoints);
    keys(&mut view, &[KeyCode::Char('2')]);
    let drops = screen(&view, PLAIN, 80, 24);
    assert!(drops[3].starts_with("bulk") && drops[3].contains("policy_isolation"), "{drops:?}");
    assert!(drops[22].contains("The destination is on another network."), "{drops:?}");
    assert_eq!(view.wanted(), Wanted::Nothing);
    keys(&mut view, &[KeyCode::Tab]);
    assert_eq!(view.wanted(), Wanted::All);
    let open = screen(&view, PLAIN, 80, 24);
    assert!(open[3].starts_with("outside") && open[3].contains("203.0.113.10:8080"), "{open:?}");
    keys(&mut view, &[KeyCode::Tab]);
    let ports = screen(&view, PLAIN, 80, 24);
    assert!(ports[3].starts_with("0.0.0.0:8080") && ports[3].contains("web"), "{ports:?}");
    assert!(ports[22].contains("leads to port 80 of web"), "{ports:?}");
}

#[test]
fn an_endpoint_is_looked_at_closely() {
    let mut view = view(Page::Endpoints);
    // The choice stays with what was chosen when the order changes.
    keys(&mut view, &[KeyCode::Down, KeyCode::Char('r'), KeyCode::Down, KeyCode::Up]);
    keys(&mut view, &[KeyCode::End, KeyCode::Enter]);
    assert_eq!(view.wanted(), Wanted::Of("bulk".into()));
    for received in [1_000.0, 8_000.0, 4_000.0] {
        let mut next = traffic();
        next.endpoints[1].received = amount(1.0, received);
        view.take(Reading::Good(Box::new(next), None));
    }
    let text = screen(&view, Looks { unicode: true, ..PLAIN }, 80, 24).join("\n");
    for wanted in ["bulk (feedfacecafe)", "172.18.0.2 fd00::2", "policy_isolation", "in all: The"] {
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
    assert!(text.contains("most 2.5M") && text.contains('█'), "{text}");
    keys(&mut view, &[KeyCode::Esc, KeyCode::Char('4'), KeyCode::Enter]);
    let text = screen(&view, PLAIN, 80, 24).join("\n");
    assert!(text.contains("0.0.0.0:8080 -> 80/tcp") && text.contains("3 open"), "{text}");
    assert!(text.contains("outside 198.51.100.7:40000 -> web"), "{text}");
    let mut gone = traffic();
    gone.endpoints.clear();
    view.take(Reading::Good(Box::new(gone), None));
    assert!(screen(&view, PLAIN, 80, 24).join("\n").contains("no longer there"));
}

#[test]
fn an_agent_that_goes_and_comes_is_told_of() {
    let mut view = view(Page::Endpoints);
    view.take(Reading::Lost("cannot reach the agent".into()));
    let shown = screen(&view, PLAIN, 80, 24);
    assert!(shown[22].contains("no answer, trying again: cannot reach the agent"), "{shown:?}");
    assert_eq!(order(&view).len(), 3, "what was known stays");
    let again = Traffic { started_at: "2026-01-02T03:05:00Z".into(), ..traffic() };
    view.take(Reading::Good(Box::new(again), None));
    assert!(screen(&view, PLAIN, 80, 24)[22].contains("the agent was restarted"));
}

#[test]
fn it_holds_still_when_told_and_ends_when_told() {
    let mut view = view(Page::Endpoints);
    keys(&mut view, &[KeyCode::Char(' ')]);
    view.take(Reading::Good(Box::default(), None));
    assert_eq!(order(&view).len(), 3);
    keys(&mut view, &[KeyCode::Char('?')]);
    assert!(screen(&view, PLAIN, 80, 24).join("\n").contains("look at an endpoint closely"));
    keys(&mut view, &[KeyCode::Char('x')]);
    let control_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert_eq!(view.key(control_c), Step::Quit);
    assert_eq!(view.key(KeyEvent::new(KeyCode::Char('q'), KeyModifiers::NONE)), Step::Quit);
}

#[test]
fn every_window_is_large_enough_to_go_on() {
    for page in Page::ALL {
        for (width, height) in [(1, 1), (31, 24), (32, 6), (40, 10), (60, 12), (80, 24), (250, 70)]
        {
            let mut view = view(page);
            let shown = screen(&view, PLAIN, width, height);
            assert!(width < 32 || shown[height as usize - 1].starts_with("q quit"), "{shown:?}");
            keys(&mut view, &[KeyCode::Enter, KeyCode::PageDown]);
            screen(&view, PLAIN, width, height);
            keys(&mut view, &[KeyCode::Char('?')]);
            screen(&view, PLAIN, width, height);
        }
    }
}

#[test]
fn a_thousand_endpoints_are_drawn_in_no_time_and_the_chosen_one_is_seen() {
    let mut many = traffic();
    many.endpoints = (0..1_000).map(|i| endpoint(&format!("c{i:04}"), "blue", 1.0, 0.0)).collect();
    let mut view = view(Page::Endpoints);
    view.take(Reading::Good(Box::new(many), None));
    keys(&mut view, &[KeyCode::End]);
    let shown = screen(&view, PLAIN, 80, 24).join("\n");
    assert!(shown.contains("c0999") && shown.contains("1000/1000"), "{shown}");
}

#[test]
fn rows_that_read_alike_are_chosen_one_after_another() {
    let mut view = View::new(Page::Connections, "");
    let one = connections().connections.remove(0);
    let last = Connection { from: "zulu".into(), source: "198.51.100.9".into(), ..one.clone() };
    let list = Connections { connections: vec![one.clone(), one.clone(), one, last], total: 4 };
    view.take(Reading::Good(Box::new(traffic()), Some(list)));
    for place in 2..=4 {
        keys(&mut view, &[KeyCode::Down]);
        let shown = screen(&view, PLAIN, 80, 24);
        assert!(shown[22].starts_with(&format!("{place}/4 ")), "{shown:?}");
    }
    keys(&mut view, &[KeyCode::Up; 3]);
    assert!(screen(&view, PLAIN, 80, 24)[22].starts_with("1/4 "));
}

#[test]
fn what_is_not_told_is_said_to_be_missing() {
    let mut view = View::new(Page::Connections, "");
    let many = Connections { total: 5_000, ..connections() };
    view.take(Reading::Good(Box::new(Traffic { ports_total: 9, ..traffic() }), Some(many)));
    let foot = |view: &View| screen(view, PLAIN, 80, 24)[22].clone();
    assert!(foot(&view).starts_with("1/1 (only the 1 used last of 5000)"), "{}", foot(&view));
    keys(&mut view, &[KeyCode::Char('/'), KeyCode::Char('x'), KeyCode::Enter]);
    let empty = screen(&view, PLAIN, 80, 24)[3].clone();
    assert!(empty.contains("contains this: only the 1 used last of 5000 are searched"), "{empty}");
    keys(&mut view, &[KeyCode::Esc, KeyCode::Char('4')]);
    assert!(foot(&view).starts_with("1/1 (only the 1 busiest of 9)"), "{}", foot(&view));
    keys(&mut view, &[KeyCode::Enter]);
    let text = screen(&view, PLAIN, 80, 30).join("\n");
    assert!(text.contains("only the 1 busiest of 9 on the host are searched"), "{text}");
    assert!(text.contains("Connections (1; of 5000 the 1 used last)"), "{text}");
    keys(&mut view, &[KeyCode::Esc, KeyCode::Char('1')]);
    assert!(!foot(&view).contains("only the"), "{}", foot(&view));
}
