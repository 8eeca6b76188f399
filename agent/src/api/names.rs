//! `GET /bascule/v1/names/{name}`: what a name leads to, as the host would see it.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{context::Context, reply::Reply};
use crate::{
    dns::directory::{Directory, Found},
    state::{Kind, Rejected},
};

/// What a name leads to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct Resolved {
    /// The name, or the address, that was asked for.
    pub asked: String,
    /// Its addresses.
    pub addresses: Vec<String>,
    /// The names of an address.
    pub names: Vec<String>,
}

/// Looks a name up on every network, or the names of an address.
pub(super) fn resolve(context: &Context, asked: String) -> Result<Reply, Rejected> {
    let snapshot = context.handle.shared.get();
    let directory = Directory::of(&snapshot.desired, snapshot.configured.names.default_bridge);
    let nobody = || Rejected::new(Kind::NotFound, format!("no container has the name {asked}"));
    let mut resolved = Resolved { asked: asked.clone(), ..Resolved::default() };
    if let Ok(address) = asked.parse::<IpAddr>() {
        let nobody =
            || Rejected::new(Kind::NotFound, format!("no container has the address {asked}"));
        resolved.names = directory.names_for_host(address).ok_or_else(nobody)?.to_vec();
        return Reply::json(200, &resolved);
    }
    match directory.for_host(&asked) {
        Found::Addresses(addresses) => {
            resolved.addresses = addresses.iter().map(IpAddr::to_string).collect();
            Reply::json(200, &resolved)
        }
        Found::Nobody => Err(Rejected::new(
            Kind::NotFound,
            format!("the container that has the name {asked} does not run"),
        )),
        Found::Unknown => Err(nobody()),
    }
}
