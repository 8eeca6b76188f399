//! `GET /bascule/v1/maps`: the maps of the data plane, and what is in them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{context::Context, reply::Reply};
use crate::{
    kernel::bpf::{Pins, inspect},
    state::{Kind, Rejected},
};

/// A map of the data plane.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct Map {
    /// Its name.
    pub name: String,
    /// Its type: `hash`, `lru_hash`, `percpu_array` and so on.
    pub kind: String,
    /// Bytes of a key.
    pub key_bytes: u32,
    /// Bytes of a value.
    pub value_bytes: u32,
    /// Most entries.
    pub capacity: u32,
    /// Entries in use; none where every slot is always there.
    pub entries: Option<u64>,
    /// Bytes of kernel memory.
    pub memory_bytes: u64,
}

/// An entry of a map. The fields are the data plane's own, and change with it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct MapEntry {
    /// What it is found by.
    pub key: String,
    /// What it says.
    pub value: String,
}

/// Lists the maps.
pub(super) fn maps(context: &Context) -> Result<Vec<Map>, Rejected> {
    let pins = Pins::open(&context.places.bpffs).map_err(Rejected::internal)?;
    let seen = inspect::maps(&pins, &context.tables).map_err(Rejected::internal)?;
    let map = |seen: inspect::SeenMap| Map {
        name: seen.name.to_owned(),
        kind: seen.kind.to_owned(),
        key_bytes: seen.geometry.key_size,
        value_bytes: seen.geometry.value_size,
        capacity: seen.geometry.max_entries,
        entries: seen.entries,
        memory_bytes: seen.bytes,
    };
    Ok(seen.into_iter().map(map).collect())
}

/// Lists the entries of a map.
pub(super) fn entries(context: &Context, name: &str) -> Result<Vec<MapEntry>, Rejected> {
    let entries = inspect::entries(&context.tables, name).map_err(Rejected::internal)?;
    let entries = entries.ok_or_else(|| {
        let why =
            format!("there is no map {name} with entries to show; `bascule map ls` lists them");
        Rejected::new(Kind::NotFound, why)
    })?;
    Ok(entries.into_iter().map(|(key, value)| MapEntry { key, value }).collect())
}

/// Reads maps away from the API's own threads.
pub(super) async fn read<T: Serialize + Send + 'static>(
    context: &Context,
    read: impl FnOnce(&Context) -> Result<T, Rejected> + Send + 'static,
) -> Result<Reply, Rejected> {
    let context = context.clone();
    let read = tokio::task::spawn_blocking(move || read(&context)).await;
    Reply::json(200, &read.map_err(Rejected::internal)??)
}
