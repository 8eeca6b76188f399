//! Docker's daemon, as far as its networks are served here.

use serde::{Deserialize, Serialize};

/// How far Docker's networks are ours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// They are Docker's own affair.
    #[default]
    Off,
    /// They are served, and Docker's daemon is still to be started without rules of its own.
    Taking,
    /// They are served, and Docker's daemon runs without rules of its own.
    On,
    /// They are served until Docker's daemon has been started with its own rules again.
    Releasing,
}

/// What was done to Docker's daemon, and what it takes to undo it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adoption {
    /// How far it has come.
    pub phase: Phase,
    /// Its configuration as it was before, byte by byte; none where there was no file.
    pub before: Option<String>,
    /// Its configuration as it was written.
    pub written: Option<String>,
    /// Which daemon it was, by which one that was started anew is told from the one before.
    pub daemon: String,
    /// Whether its default network is masqueraded: without rules of its own it says no, whatever is meant.
    pub masquerade: bool,
    /// Whether containers of its default network are kept apart, which it does not say either.
    #[serde(default)]
    pub icc_off: bool,
    /// The packet filter's rules as they were before any were removed, for whoever wants to look.
    pub rules: Vec<String>,
}

impl Adoption {
    /// Returns whether Docker's networks are served.
    pub fn is_active(&self) -> bool {
        self.phase != Phase::Off
    }
}
