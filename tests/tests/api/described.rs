//! The description that the server gives of its own part of the API, against what it serves.

use crate::stage;

#[test]
fn the_server_describes_its_own_part() {
    let (_net, agent) = stage();
    let document = agent.api("GET", "/bascule/v1/openapi.json", None);
    assert_eq!(document.status, 200);
    let paths = document.body["paths"].as_object().expect("paths").clone();
    assert!(paths.len() > 5, "{paths:?}");
    for (path, methods) in &paths {
        for method in methods.as_object().expect("methods").keys() {
            // What is told as it happens would never end; what nobody can ask for does.
            let endless = if path.ends_with("/monitor") { "?type=nosuch" } else { "" };
            let path = path.replace("{id}", "nosuch") + endless;
            let answer = agent.api(&method.to_uppercase(), &path, None);
            assert_ne!(answer.message(), "page not found", "{method} {path}");
        }
    }
    // What is answered has the shape that is described.
    let status = agent.api("GET", "/bascule/v1/status", None).body;
    let described = &document.body["components"]["schemas"]["Status"]["properties"];
    for key in status.as_object().expect("an object").keys() {
        assert!(described[key].is_object(), "{key} is not described");
    }
}
