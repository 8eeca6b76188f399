//! The engine itself: its version, in Docker's shape.

use serde::{Deserialize, Serialize};

use super::Map;

/// Reply of `GET /version`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Version {
    /// What the engine is.
    pub platform: Platform,
    /// Engine version, Docker's numbering.
    pub version: String,
    /// Newest API version.
    pub api_version: String,
    /// Oldest API version.
    #[serde(rename = "MinAPIVersion")]
    pub min_api_version: String,
    /// Operating system.
    pub os: String,
    /// Processor architecture, Go's names.
    pub arch: String,
    /// Parts with versions of their own.
    pub components: Vec<Component>,
    /// Commit that the binary was built from, or empty.
    pub git_commit: String,
    /// Always empty.
    pub go_version: String,
    /// Release of the running kernel.
    pub kernel_version: String,
    /// When the binary was built, or empty.
    pub build_time: String,
}

/// Name of the platform in [`Version`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Platform {
    /// The name.
    pub name: String,
}

/// A part in [`Version`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Component {
    /// The part.
    pub name: String,
    /// Its version.
    pub version: String,
    /// More about it.
    pub details: Map,
}
