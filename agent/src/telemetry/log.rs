//! Set-up of the logs: lines for people or JSON, on standard error, filtered by level.

use std::{
    collections::VecDeque,
    io::{self, IsTerminal as _},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

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

/// Bytes of lines that are remembered.
const REMEMBERED: usize = 512 << 10;

/// The last lines, for who asks what has been.
#[derive(Clone, Debug, Default)]
pub struct Recent(Arc<Mutex<VecDeque<u8>>>);

impl Recent {
    /// Returns them, the oldest first.
    pub fn text(&self) -> String {
        let bytes: Vec<_> = self.lines().iter().copied().collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn lines(&self) -> MutexGuard<'_, VecDeque<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl io::Write for Recent {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut lines = self.lines();
        lines.extend(line);
        let excess = lines.len().saturating_sub(REMEMBERED);
        if excess > 0 {
            // Whole lines go.
            let end = lines.iter().skip(excess).position(|byte| *byte == b'\n');
            let gone = end.map_or(lines.len(), |end| excess + end + 1);
            lines.drain(..gone);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Which lines are written, to be changed while they are.
#[derive(Clone, Debug)]
pub struct Filter {
    handle: reload::Handle<EnvFilter, Registry>,
    recent: Recent,
}

impl Filter {
    /// Changes it to a level or a list of `target=level`.
    pub fn set(&self, filter: &str) -> Result<(), LogError> {
        Ok(self.handle.reload(parse(filter)?)?)
    }

    /// Returns the last lines that it let through.
    pub const fn recent(&self) -> &Recent {
        &self.recent
    }
}

fn parse(filter: &str) -> Result<EnvFilter, LogError> {
    EnvFilter::try_new(filter)
        .map_err(|error| LogError::Filter(filter.to_owned(), error.to_string()))
}

/// Sets up the logs of this process; `filter` is a level or a list of `target=level`.
pub fn init(filter: &str, format: Format) -> Result<Filter, LogError> {
    let (layer, handle) = reload::Layer::new(parse(filter)?);
    let recent = Recent::default();
    let remembered = recent.clone();
    let remember = fmt::layer().with_ansi(false).with_writer(move || remembered.clone());
    let registry = tracing_subscriber::registry().with(layer).with(remember);
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
    Ok(Filter { handle, recent })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_remembered_whole() {
        use std::io::Write as _;
        let mut recent = Recent::default();
        let line = |number: usize| format!("{number:>99}\n");
        for number in 0..10_000 {
            recent.write_all(line(number).as_bytes()).expect("memory");
        }
        let text = recent.text();
        assert!(text.len() <= REMEMBERED && text.len() > REMEMBERED - 200, "{}", text.len());
        assert!(text.ends_with(&line(9_999)));
        assert_eq!(text.len() % 100, 0, "part of a line");
    }

    #[test]
    fn a_nonsensical_level_is_refused_with_a_hint() {
        let error = init("bascule=loud", Format::Human).expect_err("parsed");
        assert!(error.to_string().contains("debug"), "{error}");
    }
}
