//! What would become of a packet: the walks of the data plane, run in the agent over the live maps. They
//! look and do not touch: what they would enter stays in memory, and nothing is counted.
//!
//! [`ask`] makes a packet of a question, [`walk`] follows it; [`tables`] and [`host`] are the bodies of the seam.

mod ask;
mod destination;
mod frame;
mod host;
mod led;
mod notes;
mod tables;
mod walk;

use std::sync::Arc;

use bascule_common::abi::{DropReason, Ip4, Ip6};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::{host::Host, notes::Notes, tables::Live, walk::Walker};
use crate::{kernel::bpf, model::Desired, state::Rejected, telemetry::Names};

/// Who would send what to whom.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct Question {
    /// A container, `outside`, `host`, or an address of one of them.
    pub source: String,
    /// A container, `host` or an address, with `:PORT/tcp` or `:PORT/udp`; without: an echo request.
    pub destination: String,
    /// Port that it is sent from; 0 takes one.
    pub from_port: u16,
    /// Source address that it claims, where that is not the source's own.
    pub from_address: String,
    /// 4 or 6; 0 takes what both ends have.
    pub family: u8,
}

/// One thing that was looked up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct Step {
    /// What was looked at: `endpoint`, `conntrack`, `route` and so on.
    pub step: String,
    /// What was found.
    pub found: String,
}

/// One walk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct Part {
    /// `request` or `answer`.
    pub way: String,
    /// The program: `from_container`, `to_container`, `from_uplink`, `to_uplink`, `deny`, or `connect` for a socket
    /// of the host's.
    pub program: String,
    /// The interface that it is attached to.
    pub interface: String,
    /// The packet as it comes there.
    pub packet: String,
    /// What was looked at, in order.
    pub steps: Vec<Step>,
    /// How it ends: `delivered`, `left`, `passed`, `host`, `kernel` or `dropped`; `led` for a socket.
    pub verdict: String,
    /// The same in words.
    pub text: String,
    /// Why it is dropped.
    pub reason: String,
}

/// What would become of the packet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct Answer {
    /// Who sends.
    pub source: String,
    /// The packet.
    pub packet: String,
    /// What has to be said beside it.
    pub remarks: Vec<String>,
    /// The walks, in order.
    pub parts: Vec<Part>,
    /// How it ends: `delivered` to a container, `left` the host, `host` for the host itself, `kernel` for what
    /// the kernel decides alone, or `dropped`.
    pub verdict: String,
    /// The same in words.
    pub text: String,
    /// Why it is dropped, as in metrics and logs; or why its answer is.
    pub reason: String,
    /// That in words.
    pub explanation: String,
    /// What would let it through.
    pub remedy: String,
    /// How the answer to it ends; empty where there is none.
    pub answer: String,
}

/// What is needed to find an answer.
#[derive(Debug)]
pub struct World {
    /// The maps.
    pub tables: Arc<bpf::Tables>,
    /// What was asked for.
    pub desired: Arc<Desired>,
    /// Names of what is in the maps.
    pub names: Arc<Names>,
}

/// Answers a question. It asks the kernel, and waits for it.
pub fn explain(world: &World, question: &Question) -> Result<Answer, Rejected> {
    let notes = Notes::new(Arc::clone(&world.names));
    let live = Live::new(&world.tables, &notes);
    let host = Host::open(&notes).map_err(Rejected::internal)?;
    let asked = ask::resolve(world, &host, question)?;
    let mut answer = Answer {
        source: asked.source.clone(),
        packet: walk::shown(&asked.probe),
        remarks: asked.remarks.clone(),
        ..Answer::default()
    };
    let walker = Walker { world, notes: &notes, live: &live, host: &host };
    if asked.probe.src.is_ipv4() {
        walker.follow::<Ip4>(&asked, &mut answer);
    } else {
        walker.follow::<Ip6>(&asked, &mut answer);
    }
    if let Some(error) = notes.failure() {
        return Err(Rejected::internal(format!("cannot read the data plane: {error}")));
    }
    conclude(&mut answer);
    Ok(answer)
}

/// Says in the end what the parts say.
fn conclude(answer: &mut Answer) {
    let last = |way: &str| answer.parts.iter().rfind(|part| part.way == way).cloned();
    let request = last("request").unwrap_or_default();
    let back = last("answer").unwrap_or_default();
    let reason = if request.reason.is_empty() { &back.reason } else { &request.reason };
    if let Some(reason) = DropReason::ALL.into_iter().find(|known| known.label() == reason) {
        answer.reason = reason.label().to_owned();
        answer.explanation = reason.explanation().to_owned();
        answer.remedy = reason.remedy().to_owned();
    }
    // What only passes the last program has left by it.
    answer.verdict = match request.verdict.as_str() {
        "passed" => "left".to_owned(),
        verdict => verdict.to_owned(),
    };
    answer.answer = back.verdict;
    answer.text = match answer.parts.iter().find(|part| part.verdict == "left") {
        Some(left) if request.verdict == "passed" => left.text.clone(),
        _ => request.text,
    };
}
