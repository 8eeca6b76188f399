//! What crosses the socket: requests and replies, Docker-shaped where Docker has a shape.
//!
//! Keys and their presence are the contract here. What the values may be is `model`'s matter.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

mod container;
mod endpoint;
mod engine;
mod network;
mod sandbox;
mod status;

pub use container::*;
pub use endpoint::*;
pub use engine::*;
pub use network::*;
pub use sandbox::*;
pub use status::*;

/// Text by text, in order.
pub type Map = BTreeMap<String, String>;

/// Reads JSON's null as the default, as Go does.
fn null_is_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    from: D,
) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

/// Writes what is empty as JSON's null, as Go writes slices and maps that nobody made.
fn empty_is_null<'a, S: Serializer, T: Serialize>(value: &'a T, to: S) -> Result<S::Ok, S::Error>
where
    &'a T: IntoIterator,
{
    if value.into_iter().next().is_some() { value.serialize(to) } else { to.serialize_none() }
}

/// Every reply that is not a success.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorReply {
    /// What went wrong, in one sentence.
    pub message: String,
}
