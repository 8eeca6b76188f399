//! `GET /bascule/v1/openapi.json`: our own part of the API, described for machines.
//!
//! The paths come from the table of routes, the shapes from the types that are read and written. Docker's
//! part is described by Docker.

use std::borrow::Cow;

use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use super::{
    bugreport, docker, flows, maps, monitor, names, policy, proto,
    route::{Route, Row, TABLE},
    traffic, why,
};

/// Where the description finds shapes.
const SCHEMAS: &str = "/components/schemas";

/// What a request of ours takes and gives.
struct Described {
    summary: &'static str,
    body: Option<Value>,
    needs_body: bool,
    query: &'static [(&'static str, &'static str)],
    status: u16,
    reply: Option<Value>,
}

impl Described {
    const fn new(summary: &'static str, status: u16) -> Self {
        Self { summary, body: None, needs_body: true, query: &[], status, reply: None }
    }

    fn takes(mut self, body: Value) -> Self {
        self.body = Some(body);
        self
    }

    fn may_take(mut self, body: Value) -> Self {
        (self.body, self.needs_body) = (Some(body), false);
        self
    }

    const fn asks(mut self, query: &'static [(&'static str, &'static str)]) -> Self {
        self.query = query;
        self
    }

    fn gives(mut self, reply: Value) -> Self {
        self.reply = Some(reply);
        self
    }
}

/// Describes our own part of the API.
pub(super) fn document() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = Cow::Borrowed(SCHEMAS);
        settings.meta_schema = None;
    });
    let mut shapes = settings.into_generator();
    let error = shape::<proto::ErrorReply>(&mut shapes);
    let mut operations = Map::<String, Value>::new();
    for row in TABLE {
        let Some(described) = described(row.route, &mut shapes) else { continue };
        let path = operations.entry(row.path).or_insert_with(|| json!({}));
        path[row.method.to_ascii_lowercase()] = operation(row, described, &error);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Bascule",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "What Bascule's agent serves on its unix socket beside the network part of Docker's Engine API.",
            "license": { "name": "Apache-2.0 OR MIT" },
        },
        "paths": operations,
        "components": { "schemas": shapes.take_definitions(false) },
    })
}

fn shape<T: JsonSchema>(shapes: &mut SchemaGenerator) -> Value {
    shapes.subschema_for::<T>().to_value()
}

fn list<T: JsonSchema>(shapes: &mut SchemaGenerator) -> Value {
    json!({ "type": "array", "items": shape::<T>(shapes) })
}

/// Says what a route takes and gives; none for Docker's.
fn described(route: Route, shapes: &mut SchemaGenerator) -> Option<Described> {
    let new = Described::new;
    Some(match route {
        Route::Ping
        | Route::Version
        | Route::Info
        | Route::Events
        | Route::Networks
        | Route::NetworkCreate
        | Route::NetworkPrune
        | Route::Network
        | Route::NetworkRemove
        | Route::NetworkConnect
        | Route::NetworkDisconnect
        | Route::Containers
        | Route::Container => return None,
        Route::NetworkUpdate => new("Has a network's containers ask other name servers", 204)
            .takes(shape::<proto::NetworkUpdate>(shapes)),
        Route::ContainerCreate => new("Makes a container", 201)
            .takes(shape::<proto::ContainerCreate>(shapes))
            .gives(shape::<proto::ContainerCreated>(shapes)),
        Route::ContainerRemove => new("Removes a container", 204)
            .asks(&[("force", "Whether a running one is ended first")]),
        Route::ContainerStart => {
            new("Starts a container: it is given a namespace and its networks", 200).gives(shape::<
                proto::ContainerStarted,
            >(
                shapes
            ))
        }
        Route::ContainerStop => new("Stops a container", 204)
            .may_take(shape::<proto::ContainerStop>(shapes))
            .asks(&[("t", "Seconds that its process may take to end before it is killed; 10")]),
        Route::ContainerProcess => {
            new("Has the agent follow a process that was executed in a container", 204)
                .takes(shape::<proto::ProcessStarted>(shapes))
        }
        Route::ContainerPorts => {
            new("Lists what a container has published", 200)
                .gives(list::<proto::PublishedPort>(shapes))
        }
        Route::Denials => {
            new("Lists the prefixes that nobody may send from", 200)
                .gives(list::<policy::Denial>(shapes))
        }
        Route::Deny => {
            new("Puts prefixes on the deny list, all or none", 204)
                .takes(shape::<policy::Deny>(shapes))
        }
        Route::Undeny => {
            new("Takes prefixes off the deny list, all or none", 204)
                .takes(shape::<policy::Undeny>(shapes))
        }
        Route::Policy => {
            new("Says what is allowed to whom, and why, in the order of judgement", 200)
                .asks(&[
                    ("network", "Only what is about this network"),
                    ("container", "Only what is about this container, or all of a network of its"),
                ])
                .gives(list::<policy::PolicyRule>(shapes))
        }
        Route::Connections => new("Lists the connections that are tracked", 200)
            .asks(&[
                ("container", "Only those from or to this container"),
                ("network", "Only those of this network"),
                ("proto", "Only those of this protocol"),
                ("translated", "Whether those that nothing is translated of are left out"),
                ("limit", "How many at most; 1000, and 0 is all"),
            ])
            .gives(shape::<flows::Connections>(shapes)),
        Route::Maps => {
            new("Lists the maps of the data plane", 200).gives(list::<maps::Map>(shapes))
        }
        Route::Map => new("Lists the entries of a map", 200).gives(list::<maps::MapEntry>(shapes)),
        Route::Bugreport => {
            new("Tells everything that the agent knows, secrets left out; for root", 200)
                .gives(shape::<bugreport::Bugreport>(shapes))
        }
        Route::Monitor => {
            new("Tells what is seen on the network as it is seen, one JSON object a line", 200)
                .asks(&[
                    (
                        "type",
                        "drop, open, close, lifecycle, or dns, which is told where it is named alone; several with commas, as with the others",
                    ),
                    ("from", "Names or addresses that send"),
                    ("to", "Names or addresses that it is for"),
                    ("related-to", "Names or addresses of either, or what something happens to"),
                    ("network", "Networks"),
                    ("port", "Ports of either side"),
                    ("proto", "Protocols"),
                    ("reason", "Reasons of drops"),
                    ("verdict", "allowed, dropped"),
                    ("frames", "Whether the beginnings of dropped frames come along; for root"),
                ])
                .gives(shape::<monitor::Seen>(shapes))
        }
        Route::Traffic => new("Tells who is there, and what each has sent, received and lost", 200)
            .gives(shape::<traffic::Traffic>(shapes)),
        Route::Why => new("Says what would become of a packet", 200)
            .takes(shape::<why::Question>(shapes))
            .gives(shape::<why::Answer>(shapes)),
        Route::Name => new("Says what a name of a container leads to, as the host sees it", 200)
            .gives(shape::<names::Resolved>(shapes)),
        Route::Docker => {
            new("Tells how it stands with Docker's networks, and what taking over would change", 200)
                .gives(shape::<docker::Report>(shapes))
        }
        Route::DockerAdopt => {
            new("Takes over Docker's networks", 200).gives(shape::<docker::Report>(shapes))
        }
        Route::DockerRelease => {
            new("Gives Docker's networks back", 200).gives(shape::<docker::Report>(shapes))
        }
        Route::Status => new("Shows how the agent is", 200)
            .asks(&[("verbose", "Whether details of the kernel's side are wanted")])
            .gives(shape::<proto::Status>(shapes)),
        Route::OpenApi => new("Gives this description", 200).gives(json!({ "type": "object" })),
    })
}

fn operation(row: &Row, described: Described, error: &Value) -> Value {
    let content = |schema: &Value| json!({ "application/json": { "schema": schema } });
    let mut parameters = Vec::new();
    if row.path.contains("{id}") {
        parameters.push(json!({
            "name": "id", "in": "path", "required": true, "schema": { "type": "string" },
            "description": "Id, name, or the beginning of an id",
        }));
    }
    for (name, what) in described.query {
        parameters.push(json!({
            "name": name, "in": "query", "schema": { "type": "string" }, "description": what,
        }));
    }
    let mut reply = json!({ "description": "It is so" });
    if let Some(schema) = &described.reply {
        reply["content"] = content(schema);
    }
    let mut operation = json!({
        "operationId": format!("{:?}", row.route),
        "summary": described.summary,
        "parameters": parameters,
        "responses": {
            described.status.to_string(): reply,
            "default": { "description": "Why it is not", "content": content(error) },
        },
    });
    if let Some(schema) = &described.body {
        operation["requestBody"] =
            json!({ "required": described.needs_body, "content": content(schema) });
    }
    operation
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{super::paths, *};

    #[test]
    fn every_route_of_ours_is_described_and_everything_described_is_a_route() {
        let document = document();
        let mut described = BTreeSet::new();
        for (path, methods) in document["paths"].as_object().expect("paths") {
            for method in methods.as_object().expect("methods").keys() {
                described.insert((method.to_ascii_uppercase(), path.clone()));
            }
        }
        let ours = TABLE.iter().filter(|row| row.path.starts_with("/bascule/v1/"));
        let ours: BTreeSet<_> =
            ours.map(|row| (row.method.to_owned(), row.path.to_owned())).collect();
        assert_eq!(described, ours);
    }

    #[test]
    fn every_shape_that_is_named_is_there() {
        fn names(value: &Value, found: &mut BTreeSet<String>) {
            match value {
                Value::Object(map) => {
                    found.extend(map.get("$ref").and_then(Value::as_str).map(str::to_owned));
                    map.values().for_each(|value| names(value, found));
                }
                Value::Array(list) => list.iter().for_each(|value| names(value, found)),
                _ => {}
            }
        }
        let (document, mut found) = (document(), BTreeSet::new());
        names(&document, &mut found);
        assert!(found.len() >= 10, "{found:?}");
        for name in found {
            let pointer = name.strip_prefix('#').expect("a place in the document");
            assert!(document.pointer(pointer).is_some(), "{name}");
        }
    }

    #[test]
    fn shapes_carry_what_is_said_of_them() {
        let document = document();
        let status = &document["components"]["schemas"]["Status"];
        let shown = serde_json::to_value(proto::Status::default()).expect("JSON");
        let shown: BTreeSet<_> = shown.as_object().expect("an object").keys().cloned().collect();
        let properties = status["properties"].as_object().expect("properties");
        assert_eq!(properties.keys().cloned().collect::<BTreeSet<_>>(), shown);
        assert_eq!(properties["Pid"]["description"], "Its process.");
        assert_eq!(paths::OPENAPI, "/bascule/v1/openapi.json");
    }
}
