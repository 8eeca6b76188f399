//! Set-up of the logs: lines for people or JSON, on standard error, filtered by level.

use std::io::IsTerminal as _;

use tracing_subscriber::{
    EnvFilter, Registry, fmt, layer::SubscriberExt as _, reload, util::SubscriberInitExt as _,
};

/// How lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people.
    #[default]
    Human,
    /// One JSON object a line.
    Json,
}

/// Why logs cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter does not parse.
    #[error(
        "cannot understand the log level {0:?}: {1} (a level such as debug, or a filter such as info,bascule::reconcile=trace)"
    )]
    Filter(String, String),
    /// There are no logs any more.
    #[error("cannot change the log level: {0}")]
    Reload(#[from] reload::Error),
    /// Something else in this process has done it before.
    #[error("cannot set up logs: {0}")]
    Installed(#[from] tracing_subscriber::util::TryInitError),
}

/// Which lines are written, to be changed while they are.
#[derive(Clone, Debug)]
pub struct Filter(reload::Handle<EnvFilter, Registry>);

impl Filter {
    /// Changes it to a level or a list of `target=level`.
    pub fn set(&self, filter: &str) -> Result<(), LogError> {
        Ok(self.0.reload(parse(filter)?)?)
    }
}

fn parse(filter: &str) -> Result<EnvFilter, LogError> {
    EnvFilter::try_new(filter)
        .map_err(|error| LogError::Filter(filter.to_owned(), error.to_string()))
}

/// Sets up the logs of this process; `filter` is a level or a list of `target=level`.
pub fn init(filter: &str, format: Format) -> Result<Filter, LogError> {
    let (layer, handle) = reload::Layer::new(parse(filter)?);
    let registry = tracing_subscriber::registry().with(layer);
    match format {
        Format::Human => {
            let stderr = std::io::stderr;
            let lines = fmt::layer().with_writer(stderr).with_ansi(stderr().is_terminal());
            registry.with(lines.with_target(false)).try_init()?;
        }
        Format::Json => {
            let lines = fmt::layer().json().flatten_event(true).with_writer(std::io::stderr);
            registry.with(lines).try_init()?;
        }
    }
    Ok(Filter(handle))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonsensical_level_is_refused_with_a_hint() {
        let error = init("bascule=loud", Format::Human).expect_err("parsed");
        assert!(error.to_string().contains("debug"), "{error}");
    }
}
