//! What the operator is told at the end: exit codes, and errors as text.
//!
//! Rooms have error types of their own; here they only become an exit code and a few lines.

use std::fmt::{self, Display};

use crate::api::client::ClientError;

/// Exit codes of the binary. `run` and `exec` pass the command's own code on.
pub mod exit {
    /// Done.
    pub const OK: u8 = 0;
    /// Refused by the agent, or failed.
    pub const REFUSED: u8 = 1;
    /// Not understood: flags, arguments, combinations of them.
    pub const USAGE: u8 = 2;
    /// `run`, `exec`: the agent refused, or the sandbox could not be entered.
    pub const ENGINE: u8 = 125;
    /// `run`, `exec`: the command cannot be executed.
    pub const NOT_EXECUTABLE: u8 = 126;
    /// `run`, `exec`: there is no such command.
    pub const NOT_FOUND: u8 = 127;

    /// Returns the code that shells give for an end by signal.
    pub fn of_signal(signal: i32) -> u8 {
        u8::try_from(128 + signal).unwrap_or(u8::MAX)
    }
}

/// An error with everything the operator gets: exit code, cause, and what to do.
#[derive(Debug)]
pub struct Failure {
    code: u8,
    hint: Option<String>,
    cause: Cause,
}

#[derive(Debug)]
enum Cause {
    /// The agent's own words; they stand as they are.
    Agent(ClientError),
    Other(anyhow::Error),
    /// Everything has been said already.
    Silent,
}

impl Failure {
    /// Makes a failure of a command line that makes no sense.
    pub fn usage(message: impl Display) -> Self {
        Self { code: exit::USAGE, hint: None, cause: Cause::Other(anyhow::anyhow!("{message}")) }
    }

    /// Makes a failure of something that did not work.
    pub fn new(message: impl Display) -> Self {
        anyhow::anyhow!("{message}").into()
    }

    /// Makes a failure that only sets the exit code.
    pub fn silent(code: u8) -> Self {
        Self { code, hint: None, cause: Cause::Silent }
    }

    /// Adds what to do about it.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Replaces the exit code.
    pub fn with_code(mut self, code: u8) -> Self {
        self.code = code;
        self
    }

    /// Returns the exit code.
    pub fn code(&self) -> u8 {
        self.code
    }

    /// Tells whether there is nothing left to say.
    pub fn is_silent(&self) -> bool {
        matches!(self.cause, Cause::Silent)
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Self { code: exit::REFUSED, hint: None, cause: Cause::Agent(error) }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self { code: exit::REFUSED, hint: None, cause: Cause::Other(error) }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        anyhow::Error::from(error).into()
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cause {
            // Docker's wording, so that what looks for it finds it.
            Cause::Agent(error @ ClientError::Refused { .. }) => write!(f, "{error}")?,
            Cause::Agent(error) => write!(f, "error: {error}")?,
            // The alternate form is the whole chain in one line.
            Cause::Other(error) => write!(f, "error: {}", chain(error))?,
            Cause::Silent => {}
        }
        match &self.hint {
            Some(hint) => write!(f, "\n\n  tip: {hint}"),
            None => Ok(()),
        }
    }
}

/// Joins causes by colons, and leaves out those that the message before has told already.
fn chain(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn the_agents_words_stand_as_they_are() {
        let refused =
            ClientError::Refused { status: 404, message: "network blue not found".to_owned() };
        let failure = Failure::from(refused);
        assert_eq!(failure.to_string(), "Error response from daemon: network blue not found");
        assert_eq!(failure.code(), exit::REFUSED);
        assert_eq!(failure.with_code(exit::ENGINE).code(), 125);
    }

    #[test]
    fn a_chain_is_one_line_without_repetition() {
        let inner = anyhow::anyhow!("permission denied");
        let error = inner.context("cannot open /x: permission denied").context("cannot start");
        let failure = Failure::from(error);
        assert_eq!(failure.to_string(), "error: cannot start: cannot open /x: permission denied");
        let error = Err::<(), _>(std::io::Error::from_raw_os_error(2)).context("cannot read x");
        let text = Failure::from(error.expect_err("an error")).to_string();
        assert!(text.starts_with("error: cannot read x: No such file"), "{text}");
    }

    #[test]
    fn usage_is_two_and_hints_follow() {
        let failure = Failure::usage("no").hint("do that");
        assert_eq!(failure.code(), exit::USAGE);
        assert_eq!(failure.to_string(), "error: no\n\n  tip: do that");
    }

    #[test]
    fn signals_map_as_in_shells() {
        assert_eq!(exit::of_signal(9), 137);
        assert_eq!(exit::of_signal(15), 143);
    }
}
