//! What the page's server refuses, and what it tells a browser.

use bascule_tests::{Agent, Topology, agent::Settings};

use crate::{PAGE, stage};

#[test]
fn the_page_is_for_its_address_and_changes_nothing() {
    let (agent, net) = stage();
    let curl = |options: &str| net.host.try_sh(&format!("curl -s -i -m 5 {options}")).stdout;
    let page = curl(PAGE);
    assert!(page.starts_with("HTTP/1.1 200"), "{page}");
    for wanted in [
        "content-security-policy: default-src 'none'; script-src 'self'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "x-content-type-options: nosniff",
        "cache-control: no-store",
    ] {
        assert!(page.contains(wanted), "{wanted}: {page}");
    }
    // A name of somebody else's that leads here is what DNS rebinding is.
    for host in ["evil.example", "evil.example:9478", "127.0.0.1.evil.example"] {
        let refused = curl(&format!("-H Host:{host} {PAGE}api/traffic"));
        assert!(refused.starts_with("HTTP/1.1 421") && !refused.contains("Endpoints"), "{refused}");
    }
    assert!(curl(&format!("-H Host:localhost:9478 {PAGE}api/traffic")).contains("\"Endpoints\""));
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        let refused = curl(&format!("-X {method} {PAGE}api/traffic"));
        assert!(refused.starts_with("HTTP/1.1 405"), "{method}: {refused}");
    }
    assert!(curl(&format!("{PAGE}api/endpoints/nosuch")).starts_with("HTTP/1.1 404"));
    assert!(curl(&format!("{PAGE}nosuch")).starts_with("HTTP/1.1 404"));
    assert!(agent.ok("status").contains("127.0.0.1:9478"));
    assert!(!agent.ok("status").contains("web page"), "{}", agent.ok("status"));
}

#[test]
fn there_is_no_page_unless_asked_for_and_an_open_one_is_warned_of() {
    let net = Topology::new();
    let mut agent = Agent::start(&net.host);
    assert_ne!(net.host.try_sh(&format!("curl -s -m 2 {PAGE}")).code, 0);
    agent.kill9();
    agent.launch_with(&Settings::default().arg(&["--ui=0.0.0.0:9500"]));
    agent.wait_ready();
    let warned = agent.ok("status");
    assert!(warned.contains("the web page at 0.0.0.0:9500 shows"), "{warned}");
    let seen =
        net.neighbour.sh(&format!("curl -s -m 5 http://{}:9500/", bascule_tests::topology::HOST));
    assert!(seen.contains("<title>Bascule</title>"), "{seen}");
}
