//! Policy over the socket: what crosses it, and what each request does.

mod rules;

pub use self::rules::PolicyRule;
pub(super) use self::rules::list as rules;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{context::Context, reply::Reply, request::Request};
use crate::{
    kernel::bpf::BpfError,
    state::{Change, Rejected},
};

/// A prefix on the deny list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct Denial {
    /// The prefix: `198.51.100.0/24`.
    pub prefix: String,
    /// Packets from it that were dropped.
    pub packets: u64,
    /// Their bytes, from the IP header on.
    pub bytes: u64,
    /// What the operator remarked.
    pub comment: String,
    /// When it was put there.
    pub created: String,
}

/// What to put on the deny list: all of it or nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct Deny {
    /// Prefixes, or addresses.
    pub prefixes: Vec<String>,
    /// A remark.
    pub comment: String,
    /// Whether prefixes that may lock the operator out are meant.
    pub force: bool,
}

/// What to take off the deny list: all of it or nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct Undeny {
    /// Prefixes, or addresses.
    pub prefixes: Vec<String>,
}

/// Lists the prefixes in their order, with their counters.
pub(super) fn list(context: &Context) -> Result<Reply, Rejected> {
    let desired = context.handle.shared.get().desired.clone();
    let denial = |denial: &crate::model::Denial| -> Result<Denial, BpfError> {
        let count = context.tables.deny.count(denial.slot)?;
        Ok(Denial {
            prefix: denial.prefix.to_string(),
            packets: count.packets,
            bytes: count.bytes,
            comment: denial.comment.as_str().to_owned(),
            created: denial.created.to_string(),
        })
    };
    let list: Result<Vec<_>, _> = desired.denials.values().map(denial).collect();
    Reply::json(200, &list.map_err(Rejected::internal)?)
}

/// Puts prefixes on the list.
pub(super) async fn deny(context: &Context, request: &Request) -> Result<Reply, Rejected> {
    let Deny { prefixes, comment, force } = request.read()?;
    let change = Change::Deny { prefixes, comment, force };
    context.handle.change(change).await.map(|_| Reply::Empty(204))
}

/// Takes prefixes off the list.
pub(super) async fn undeny(context: &Context, request: &Request) -> Result<Reply, Rejected> {
    let Undeny { prefixes } = request.read()?;
    context.handle.change(Change::Undeny(prefixes)).await.map(|_| Reply::Empty(204))
}
