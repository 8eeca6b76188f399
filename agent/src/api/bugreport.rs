//! `GET /bascule/v1/bugreport`: everything that the agent knows, for whoever is to find out what is wrong.
//!
//! Left out are the values of labels and what stands behind the first word of commands: passwords live there.

use std::collections::BTreeMap;

use bascule_common::abi::names;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    containers, context::Context, engine, flows, maps, networks, policy, reply::Reply,
    request::Request, status,
};
use crate::{kernel::bpf::inspect, state::Rejected};

/// Entries of a map that are told.
const ENTRIES: usize = 20_000;
/// What stands where something was left out.
const LEFT_OUT: &str = "(left out)";

/// Everything that the agent knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct Bugreport {
    /// Files of text by their path.
    pub files: BTreeMap<String, String>,
}

/// Gathers it. What cannot be read is told in its place.
pub(super) async fn bugreport(context: &Context, request: &Request) -> Result<Reply, Rejected> {
    request.peer.must_be_root("a report of everything")?;
    let mut report = Bugreport::default();
    let query = |pairs: &[(&str, &str)]| Request {
        peer: request.peer,
        version: request.version,
        id: String::new(),
        query: pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        body: Vec::new(),
    };
    report.json("status.json", Reply::json(200, &status::status(context)));
    report.json("version.json", Reply::json(200, &engine::version(context)));
    report.json("info.json", Reply::json(200, &engine::info(context, request)));
    report.json("networks.json", networks::list(context, &query(&[])));
    report.json("containers.json", containers::list(context, &query(&[("all", "1")])));
    report.json("policy.json", policy::rules(context, &query(&[])));
    let limit = ENTRIES.to_string();
    report.json("connections.json", flows::list(context, &query(&[("limit", &limit)])).await);
    let own = context.clone();
    let planes = tokio::task::spawn_blocking(move || data_plane(&own)).await;
    report.files.extend(planes.map_err(Rejected::internal)?);
    report.text("agent.log", context.recent.text());
    Reply::json(200, &report)
}

/// What is in the kernel.
fn data_plane(context: &Context) -> BTreeMap<String, String> {
    let mut report = Bugreport::default();
    let list = maps::maps(context).and_then(|maps| Reply::json(200, &maps));
    report.json("maps.json", list);
    for name in names::map::ALL {
        let text = match inspect::entries(&context.tables, name) {
            // A ring, or sockets.
            Ok(None) => continue,
            Ok(Some(entries)) => {
                let left = entries.len().saturating_sub(ENTRIES);
                let lines = entries.into_iter().take(ENTRIES).map(|(k, v)| format!("{k} => {v}\n"));
                let more = (left > 0).then(|| format!("and {left} more\n"));
                lines.chain(more).collect()
            }
            Err(error) => format!("{error}\n"),
        };
        report.text(&format!("maps/{name}.txt"), text);
    }
    let loaded = inspect::programs(&context.programs).map_err(Rejected::internal);
    report.json("programs.json", loaded.and_then(|loaded| Reply::json(200, &loaded)));
    let attached = context.names.get();
    let line = |p: &crate::telemetry::ProgramName| {
        format!("{} {} {} {}\n", p.iface, p.hook, p.mode, p.program)
    };
    report.text("attached.txt", attached.programs.iter().map(line).collect());
    let metrics = context.metrics.render().unwrap_or_else(|error| format!("{error}\n"));
    report.text("metrics.txt", metrics);
    report.files
}

impl Bugreport {
    fn text(&mut self, path: &str, text: String) {
        self.files.insert(path.to_owned(), text);
    }

    fn json(&mut self, path: &str, reply: Result<Reply, Rejected>) {
        let text = match reply {
            Ok(Reply::Json(_, mut value)) => {
                leave_out(&mut value);
                serde_json::to_string_pretty(&value).unwrap_or_default()
            }
            Ok(_) => String::new(),
            Err(error) => error.message,
        };
        self.text(path, text + "\n");
    }
}

/// Takes out what may be secret.
fn leave_out(value: &mut Value) {
    match value {
        Value::Array(list) => list.iter_mut().for_each(leave_out),
        Value::Object(map) => {
            for (key, value) in map {
                match (key.as_str(), &mut *value) {
                    ("Labels", Value::Object(labels)) => {
                        labels.values_mut().for_each(|label| *label = LEFT_OUT.into());
                    }
                    ("Env", value) => *value = Value::Array(Vec::new()),
                    ("Cmd" | "Args" | "Entrypoint", Value::Array(words)) => {
                        words.iter_mut().skip(1).for_each(|word| *word = LEFT_OUT.into());
                    }
                    ("Command", Value::String(command)) => {
                        if let Some((first, _)) = command.split_once(' ') {
                            *command = format!("{first} {LEFT_OUT}");
                        }
                    }
                    (_, value) => leave_out(value),
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn p94_secrets_are_left_out() {
        let mut value = json!([{
            "Names": ["/c1"], "Command": "server --password hunter2",
            "Labels": {"token": "hunter2"}, "Config": {"Cmd": ["server", "hunter2"], "Env": ["A=hunter2"]},
        }]);
        leave_out(&mut value);
        let text = value.to_string();
        assert!(!text.contains("hunter2"), "{text}");
        assert!(
            text.contains("token") && text.contains("server") && text.contains("/c1"),
            "{text}"
        );
    }
}
