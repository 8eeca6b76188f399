//! A request as the transport has read it, and who sends it.

use serde::{Deserialize as _, de::DeserializeOwned};
use serde_json::Value;

use super::{json, route::ApiVersion};
use crate::state::Rejected;

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// User id of the client; none where it could not be found.
    pub uid: Option<u32>,
}

impl Peer {
    /// Refuses who is not root.
    pub(super) fn must_be_root(self, what: &str) -> Result<(), Rejected> {
        match self.uid {
            Some(0) => Ok(()),
            _ => Err(Rejected::forbidden(format!("{what} needs root"))),
        }
    }

    /// Refuses who wants another user's process followed, unless it is root.
    pub(super) fn may_follow(self, pid: i32) -> Result<(), Rejected> {
        use std::os::unix::fs::MetadataExt as _;
        let owner = std::fs::metadata(format!("/proc/{pid}")).map(|found| found.uid()).ok();
        if owner.is_some() && owner == self.uid {
            Ok(())
        } else {
            self.must_be_root("another user's process")
        }
    }
}

/// A request.
#[derive(Debug)]
pub(super) struct Request {
    /// Who asks.
    pub(super) peer: Peer,
    /// Version of Docker's API that it is written in.
    pub(super) version: ApiVersion,
    /// What `{id}` stands for in the path; empty where there is none.
    pub(super) id: String,
    /// Keys and values of the query.
    pub(super) query: Vec<(String, String)>,
    /// The body.
    pub(super) body: Vec<u8>,
}

impl Request {
    /// Reads the body.
    pub(super) fn read<T: DeserializeOwned>(&self) -> Result<T, Rejected> {
        let body = std::str::from_utf8(&self.body)
            .map_err(|_| Rejected::invalid("invalid JSON: the request body is not UTF-8"))?;
        let mut stream = serde_json::Deserializer::from_str(body);
        let value = Value::deserialize(&mut stream).map_err(|error| {
            match error.is_eof() && self.body.is_empty() {
                true => Rejected::invalid("a request body is needed"),
                false => {
                    Rejected::invalid(format!("invalid JSON: {}", json::fault(&self.body, &error)))
                }
            }
        })?;
        stream.end().map_err(|_| Rejected::invalid("unexpected content after JSON"))?;
        json::from_value(value).map_err(|error| Rejected::invalid(format!("invalid JSON: {error}")))
    }

    /// Reads the body, which may be missing.
    pub(super) fn read_or_default<T: DeserializeOwned + Default>(&self) -> Result<T, Rejected> {
        if self.body.trim_ascii().is_empty() {
            return Ok(T::default());
        }
        self.read::<Option<T>>().map(Option::unwrap_or_default)
    }

    /// Reads a switch of the query.
    pub(super) fn switch(&self, key: &str) -> bool {
        let value = self.query.iter().find(|(k, _)| k == key).map(|(_, v)| v.to_ascii_lowercase());
        value.is_some_and(|v| !matches!(v.as_str(), "" | "0" | "no" | "false" | "none"))
    }

    /// Reads a value of the query; an empty one is none.
    pub(super) fn value(&self, key: &str) -> Option<&str> {
        self.query.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str()).filter(|v| !v.is_empty())
    }
}
