//! The page as it is seen and used.

use bascule_tests::{Agent, browser::Browser, container::Container, process, wait};

use crate::{PAGE, Traffic, narrow, pictures, stage};

/// Networks, containers, a link and published ports, with traffic and drops.
fn populated(agent: &Agent) -> (Vec<Container>, Traffic) {
    agent.network("blue", "");
    agent.network("green", "--subnet 10.99.0.0/24");
    agent.network("quiet", "--internal -o com.docker.network.bridge.enable_icc=false");
    let talker = agent.container("talker", "blue", "");
    let web = agent.container("web", "blue", "-p 8080:80 -p 8443:443");
    let stranger = agent.container("stranger", "green", "-p 5353:53/udp");
    let db = agent.container("db", "quiet", "--expose 5432/tcp");
    let app = agent.container("app", "quiet", "--link db:db");
    let targets = [web.address().to_string(), stranger.address().to_string()];
    let traffic = Traffic::new(&talker, &targets);
    (vec![talker, web, stranger, db, app], traffic)
}

/// The text of a row of a table.
fn row(table: &str, name: &str) -> String {
    format!(
        "[...document.querySelectorAll('#{table} tbody tr')].find(r => r.innerText.includes('{name}'))?.innerText ?? ''"
    )
}

#[test]
fn p84_the_page_shows_who_talks_to_whom_and_what_is_dropped() {
    let (agent, net) = stage();
    let (containers, _traffic) = populated(&agent);
    let _held = containers;
    let mut browser = Browser::start(&net.host, 1400, 1250);
    browser.open(PAGE);
    shows_everything(&mut browser);
    search_narrows(&mut browser);
    an_endpoint_by_keyboard_alone(&mut browser);
    both_lights(&mut browser);
    a_narrow_window(&mut browser);
    the_agent_goes_and_comes(agent, &mut browser);
    let foreign: Vec<_> =
        browser.requests().into_iter().filter(|url| !url.starts_with(PAGE)).collect();
    assert!(foreign.iter().all(|url| url == "about:blank"), "asked for elsewhere: {foreign:?}");
}

fn shows_everything(browser: &mut Browser) {
    browser.wait("rates", &format!("/[1-9][\\d.]* k?B\\/s/.test({})", row("endpoints", "talker")));
    for wanted in ["blue", "green", "quiet", "0.0.0.0:8080/tcp", "policy_isolation"] {
        browser.wait(wanted, &format!("document.body.innerText.includes('{wanted}')"));
    }
    let text = browser.run("document.body.innerText");
    let text = text.as_str().expect("text");
    assert!(text.contains("The destination is on another network."), "{text}");
    let picture = browser.run("document.querySelector('#picture svg').textContent");
    let picture = picture.as_str().expect("a picture");
    for wanted in [
        "Outside",
        "Host",
        "up0",
        "blue",
        "172.18.0.0/24",
        "talker",
        "db",
        "0.0.0.0:8080/tcp",
        "internal",
    ] {
        assert!(picture.contains(wanted), "{wanted}: {picture}");
    }
    assert_eq!(browser.run("document.querySelectorAll('#picture .link').length"), 1);
    assert_eq!(browser.run("document.querySelectorAll('#picture .edges .port').length"), 3);
    browser.wait("a drop in the picture", "!!document.querySelector('#picture .dropping')");
    // Rates are alive: what was received goes on growing.
    let before = browser.run("document.querySelector('#drops tbody').innerText");
    let before = before.as_str().expect("text").replace(['\n', '\t'], " ");
    browser.wait(
        "more drops",
        &format!("document.querySelector('#drops tbody').innerText.replace(/[\\n\\t]/g, ' ') !== {before:?}"),
    );
    // Headings in order, one of the first rank; all that is pressed has a name.
    let headings = "[...document.querySelectorAll('h1,h2,h3')].filter(h => h.offsetParent).map(h => h.tagName[1]).join('')";
    assert_eq!(browser.run(headings), "12222222");
    let nameless = "[...document.querySelectorAll('a,button,input')].filter(n => \
        !(n.textContent.trim() || n.getAttribute('aria-label') || n.labels?.length)).length";
    assert_eq!(browser.run(nameless), 0);
    let file = pictures().join("overview-light.png");
    browser.screenshot(&file);
    not_blank(browser, &file);
}

fn search_narrows(browser: &mut Browser) {
    browser.key("/");
    for letter in "stranger".chars() {
        browser.key(&letter.to_string());
    }
    browser.wait("one endpoint", "document.querySelectorAll('#endpoints tbody tr').length === 1");
    assert_eq!(browser.run("document.querySelectorAll('#picture a.chip:not(.pill)').length"), 1);
    assert_eq!(browser.run("document.querySelector('#found').textContent"), "1 of 5 endpoints");
    browser.run("document.querySelector('#search').value = '8443'; document.querySelector('#search').dispatchEvent(new Event('input'))");
    browser.wait("the port's container", &format!("({}).length > 0", row("endpoints", "web")));
    browser.run("document.querySelector('#search').value = ''; document.querySelector('#search').dispatchEvent(new Event('input'))");
    browser.wait("all again", "document.querySelectorAll('#endpoints tbody tr').length === 5");
}

fn an_endpoint_by_keyboard_alone(browser: &mut Browser) {
    browser.run("document.activeElement.blur()");
    let focused =
        "document.activeElement.getAttribute('aria-label') ?? document.activeElement.textContent";
    let mut seen = Vec::new();
    while seen.len() < 60 && !seen.iter().any(|name: &String| name == "talker on blue") {
        browser.key("Tab");
        seen.push(browser.run(focused).as_str().unwrap_or_default().to_owned());
    }
    assert_eq!(seen.last().map(String::as_str), Some("talker on blue"), "{seen:?}");
    browser.key("Enter");
    browser
        .wait("its page", "document.querySelector('#detail h2')?.textContent === 'talker on blue'");
    assert_eq!(browser.run("document.activeElement.id"), "h-endpoint");
    assert_eq!(browser.run("document.title"), "talker – Bascule");
    // The history was there before the page was opened.
    browser.wait(
        "history",
        "(document.querySelector('.chart .line').getAttribute('d').match(/L/g) ?? []).length > 2",
    );
    browser
        .wait("drops", "document.querySelector('#detail').innerText.includes('policy_isolation')");
    let text = browser.run("document.querySelector('#detail').innerText");
    let text = text.as_str().expect("text");
    for wanted in ["172.18.0.", "02:42:", "on the host bsc", "The last minutes", "Connections"] {
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
    browser.screenshot(&pictures().join("endpoint-light.png"));
    while browser.run("document.activeElement.className") != "back" {
        browser.run("document.querySelector('#main').focus()");
        browser.key("Tab");
    }
    browser.key("Enter");
    browser.wait("the overview", "!document.querySelector('#overview').hidden");
}

fn both_lights(browser: &mut Browser) {
    let dark =
        serde_json::json!({ "features": [{ "name": "prefers-color-scheme", "value": "dark" }] });
    let ground = "getComputedStyle(document.body).backgroundColor";
    let light = browser.run(ground);
    browser.call("Emulation.setEmulatedMedia", dark);
    assert_ne!(browser.run(ground), light);
    browser.screenshot(&pictures().join("overview-dark.png"));
    browser.call("Emulation.setEmulatedMedia", serde_json::json!({ "features": [] }));
}

fn a_narrow_window(browser: &mut Browser) {
    narrow(browser, 2600);
    assert_eq!(browser.run("document.querySelectorAll('#picture .link').length"), 1);
    assert_eq!(browser.run("document.querySelectorAll('#picture .edges .port').length"), 3);
    browser.screenshot(&pictures().join("overview-narrow.png"));
    browser.call("Emulation.clearDeviceMetricsOverride", serde_json::json!({}));
}

fn the_agent_goes_and_comes(mut agent: Agent, browser: &mut Browser) {
    assert_eq!(browser.complaints(), Vec::<String>::new());
    agent.kill9();
    browser.wait(
        "word of it",
        "document.querySelector('#state').textContent.includes('does not answer')",
    );
    agent.restart();
    browser.wait("rates again", "document.querySelector('#state').hidden");
}

/// Demands that a picture has more colours than a blank one.
fn not_blank(browser: &mut Browser, file: &std::path::Path) {
    let size = std::fs::metadata(file).expect("a picture").len();
    assert!(size > 30_000, "{} has {size} bytes", file.display());
    let drawn = browser.run("document.querySelector('#picture svg').getBBox().height");
    assert!(drawn.as_f64() > Some(150.0), "{drawn}");
}

#[test]
fn names_are_texts_and_a_thousand_endpoints_are_usable() {
    let (agent, net) = stage();
    agent.network("blue", "");
    agent.container("web", "blue", "");
    let mut browser = Browser::start(&net.host, 1400, 1250);
    browser.open(PAGE);
    browser.wait("an endpoint", "document.querySelectorAll('#endpoints tbody tr').length === 1");
    // The agent takes no such names; the page would do them no harm.
    browser.run(HOSTILE);
    browser.wait("hostile names", "document.body.innerText.includes('<img src=x onerror=')");
    assert_eq!(browser.run("[document.querySelectorAll('img').length, window.harm].join()"), "0,");
    browser.run(MANY);
    browser.wait("a thousand", "document.querySelector('#sum-endpoints').textContent === '1000'");
    browser.wait("their squares", "document.querySelectorAll('#picture .chip').length >= 1000");
    assert_eq!(browser.run("document.querySelectorAll('#endpoints tbody tr').length"), 100);
    // A search is answered between two frames that an eye tells apart.
    let took = browser.run(
        "(() => { const s = document.querySelector('#search'); const begin = performance.now(); \
         for (const v of ['c0042', '']) { s.value = v; s.dispatchEvent(new Event('input')); } \
         return performance.now() - begin; })()",
    );
    assert!(took.as_f64() < Some(3_000.0), "{took} ms");
    browser.screenshot(&pictures().join("thousand.png"));
    let answered = process::run(
        agent.host.command("curl").args(["-s", "-m", "5", &format!("{PAGE}api/traffic")]),
        wait::START,
    );
    assert!(answered.stdout.contains("\"web\""), "{answered:?}");
}

/// Has the page told of a container with a name that is markup.
const HOSTILE: &str = "(() => { const own = window.fetch; window.fetch = async (path, options) => { \
    const answer = await own(path, options); const body = await answer.json(); \
    if (body.Endpoints) { const e = body.Endpoints[0]; \
    e.Container = '<img src=x onerror=\"window.harm=1\">'; e.Network = '</text><script>window.harm=1</script>'; \
    body.Networks.push({ ...body.Networks[0], Name: e.Network, Subnets: ['\"><b>'] }); } \
    return { ok: true, status: 200, json: async () => body }; }; })()";

/// Has the page told of a thousand endpoints.
const MANY: &str = "(() => { const own = window.fetch; window.fetch = async (path, options) => { \
    const body = await (await own(path, options)).json(); \
    if (body.Endpoints) { const one = body.Endpoints[0]; \
    body.Endpoints = Array.from({ length: 1000 }, (_, i) => ({ ...one, Id: `id${i}`, \
    Container: 'c' + String(i).padStart(4, '0'), Network: i % 10 ? 'blue' : one.Network, \
    Received: { ...one.Received, ByteRate: i * 1000 } })); } \
    return { ok: true, status: 200, json: async () => body }; }; })()";
