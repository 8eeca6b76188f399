//! What the picture says without a picture, and what there is too much of.

use bascule_tests::browser::Browser;

use crate::{PAGE, narrow, pictures, stage};

/// Presses the tabulator key until what has the focus is what a script says.
#[track_caller]
fn tab_to(browser: &mut Browser, script: &str) {
    for _ in 0..80 {
        browser.key("Tab");
        if browser.run(script) == true {
            return;
        }
    }
    panic!("no way by the tabulator key to {script}");
}

/// The text of a table's rows, in one line.
fn rows(place: &str) -> String {
    format!(
        "[...document.querySelectorAll('{place} tbody tr')].map(r => r.innerText.split(/\\s+/).join(' ')).join('; ')"
    )
}

#[test]
fn links_networks_and_uplinks_are_read_by_keyboard_alone() {
    let (agent, net) = stage();
    agent.network("blue", "");
    agent.network("quiet", "--internal -o com.docker.network.bridge.enable_icc=false");
    agent.container("db", "quiet", "--expose 5432/tcp --expose 9000-9002/udp");
    agent.container("app", "quiet", "--link db:db");
    agent.ok("network connect blue app");
    let mut browser = Browser::start(&net.host, 1400, 1250);
    browser.open(PAGE);
    browser
        .wait("the link", &format!("{} === 'app db 5432/tcp 9000-9002/udp quiet'", rows("#links")));
    let networks = browser.run(&rows("#networks"));
    let networks = networks.as_str().expect("rows");
    for wanted in ["blue 172.18.0.0/24 ", " no on 1 ", "quiet 172.", " yes off 2 "] {
        assert!(networks.contains(wanted), "{wanted}: {networks}");
    }
    let uplinks = browser.run(&rows("#uplinks"));
    assert!(uplinks.as_str().is_some_and(|text| text.starts_with("up0 ")), "{uplinks}");
    // The container's place on the link's network is where the link begins.
    let begins = "(() => { const [x, y] = document.querySelector('#picture .link').getAttribute('d').match(/[\\d.]+/g).map(Number); \
        const box = document.querySelector('#picture a[aria-label=\"app on quiet\"] .box').getBBox(); \
        return x > box.x && x < box.x + box.width && Math.abs(y - box.y - box.height) < 2; })()";
    assert_eq!(browser.run(begins), true);

    let focused = |place: &str, text: &str| {
        format!(
            "document.activeElement.matches('{place} a') && document.activeElement.textContent === '{text}'"
        )
    };
    tab_to(&mut browser, "document.activeElement.id === 'links'");
    tab_to(&mut browser, &focused("#links", "app"));
    browser.key("Enter");
    let link = |way: &str| format!("{}.includes('{way} 5432/tcp 9000-9002/udp')", rows("#detail"));
    browser.wait("whom it reaches", &link("reaches db"));
    let title = "document.querySelector('#h-endpoint').textContent";
    assert_eq!(browser.run(title), "app on quiet");
    let facts = browser.run("document.querySelector('.facts').innerText");
    assert!(facts.as_str().is_some_and(|f| f.contains(", internal, ICC off")), "{facts}");
    tab_to(&mut browser, &focused("#detail", "db"));
    browser.key("Enter");
    browser.wait("who reaches it", &link("is reached by app"));
    assert_eq!(browser.run(title), "db on quiet");
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

#[test]
fn what_is_cut_off_is_said_and_equal_rows_do_not_pile_up() {
    let (agent, net) = stage();
    agent.network("blue", "");
    agent.container("web", "blue", "-p 8080:80");
    let mut browser = Browser::start(&net.host, 1400, 1250);
    browser.open(PAGE);
    browser.wait("an endpoint", "document.querySelectorAll('#endpoints tbody tr').length === 1");
    browser.run(MORE);
    let ports = "Only 1 of 2345 published ranges, those that have carried most, are listed";
    let says = |place: &str, text: &str| {
        format!("document.querySelector('{place}').innerText.includes('{text}')")
    };
    browser.wait("ports that are not told", &says("#ports", ports));
    browser.wait(
        "them in the picture",
        "document.querySelector('#picture svg').textContent.includes('and 2344 more ports')",
    );
    assert_eq!(browser.run("document.querySelector('#found').textContent"), "");
    browser.run("document.querySelector('#search').value = '8080'; document.querySelector('#search').dispatchEvent(new Event('input'))");
    browser.wait("what was searched", &says("#found", &format!("1 of 1 endpoints. {ports}")));

    browser.run("location.hash = document.querySelector('#endpoints a').getAttribute('href')");
    let connections = "Only 3 of 1234 connections, those used last, are listed";
    browser.wait("connections that are not told", &says("#detail", connections));
    browser.wait("ports of others", &says("#detail", ports));
    browser.run("window.asked = 0");
    browser.wait("some readings", "window.asked >= 4");
    let alike = "[...document.querySelectorAll('#detail tr')].filter(r => r.innerText.includes('198.51.100.7')).length";
    assert_eq!(browser.run(alike), 3);
    // Readings came slowly: their points are where their time is.
    browser.wait("the time of points", &says(".charts", "4 minutes ago"));
    let line = browser.run("document.querySelector('.chart .line').getAttribute('d')");
    let line = line.as_str().expect("a line");
    let at: Vec<_> =
        line.split(['M', 'L']).filter_map(|point| point.split_whitespace().next()).collect();
    assert_eq!(at, ["1.3", "321.3", "640.0"], "{line}");
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

#[test]
fn a_crowd_and_a_narrow_window_keep_their_wires() {
    let (agent, net) = stage();
    agent.network("blue", "");
    agent.container("web", "blue", "-p 8080:80 -p 8443:443");
    let mut browser = Browser::start(&net.host, 1400, 1250);
    browser.open(PAGE);
    browser.wait("an endpoint", "document.querySelectorAll('#endpoints tbody tr').length === 1");
    browser.run(CROWD);
    browser.wait("squares", "document.querySelectorAll('#picture .spot.ground').length === 60");
    let wires = "[...['.edges .port', '.edges .link']].map(w => document.querySelectorAll(`#picture ${w}`).length).join()";
    assert_eq!(browser.run(wires), "2,1");
    browser.screenshot(&pictures().join("crowd.png"));
    narrow(&mut browser, 1250);
    assert_eq!(browser.run(wires), "2,1");
    browser.screenshot(&pictures().join("crowd-narrow.png"));
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

/// Has the page told that there is more than it is told of, of connections that read alike, and of slow readings.
const MORE: &str = "(() => { const own = window.fetch; window.asked = 0; window.fetch = async (path, options) => { \
    const body = await (await own(path, options)).json(); window.asked += 1; \
    const one = { Proto: 'icmp', From: 'outside', Source: '198.51.100.7', To: 'web', Destination: '203.0.113.10', \
    State: 'open', IdleSeconds: 1 }; \
    if (body.Endpoints) body.PortsTotal = 2345; \
    else { body.Connections = { Connections: [one, one, one], Total: 1234 }; \
    body.History.Points = [[240, 1, 1, 1], [120, 5, 1, 1], [0.5, 2, 1, 1]]; } \
    return { ok: true, status: 200, json: async () => body }; }; })()";

/// Has the page told of more endpoints than have chips, and of a link between two of them.
const CROWD: &str = "(() => { const own = window.fetch; window.fetch = async (path, options) => { \
    const body = await (await own(path, options)).json(); const one = body.Endpoints[0]; \
    body.Endpoints = [one, ...Array.from({ length: 59 }, (_, i) => ({ ...one, Id: `id${i}`, Container: `c${i}` }))]; \
    body.Links = [{ From: 'c40', To: 'web', Network: 'blue', Ports: ['80/tcp'] }]; \
    return { ok: true, status: 200, json: async () => body }; }; })()";
