//! What the commands say: coloured on terminals, plain in pipes.

use std::{
    io::IsTerminal as _,
    time::{Duration, Instant},
};

use anstream::{eprintln, println};
use anstyle::{AnsiColor, Style};
use indicatif::{ProgressBar, ProgressStyle};

pub const TITLE: Style = Style::new().bold();
pub const GOOD: Style = AnsiColor::Green.on_default();
pub const BAD: Style = AnsiColor::Red.on_default().bold();
pub const DIM: Style = Style::new().dimmed();

/// Announces a step.
pub fn step(name: &str) {
    println!("{TITLE}==> {name}{TITLE:#}");
}

/// Reports what went well.
pub fn good(what: &str) {
    println!("    {GOOD}ok{GOOD:#}  {what}");
}

/// Reports what did not.
pub fn bad(what: &str) {
    println!("    {BAD}no{BAD:#}  {what}");
}

/// Says something by the way.
pub fn note(what: &str) {
    println!("    {DIM}{what}{DIM:#}");
}

/// Says a line as it is.
pub fn line(what: &str) {
    println!("{what}");
}

/// Reports the error that ends a command, with its causes.
pub fn error(error: &anyhow::Error) {
    eprintln!("{BAD}error{BAD:#}: {error:#}");
}

/// Writes a duration the way people say it.
pub fn took(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if seconds >= 60 {
        format!("{} min {:02} s", seconds / 60, seconds % 60)
    } else {
        format!("{:.1} s", duration.as_secs_f64())
    }
}

/// A sign of life during long silent work: a spinner on terminals, a single line elsewhere.
pub struct Busy {
    bar: ProgressBar,
    what: String,
    since: Instant,
}

impl Busy {
    /// Starts to show `what`.
    pub fn start(what: impl Into<String>) -> Self {
        let what = what.into();
        let bar = ProgressBar::new_spinner();
        if std::io::stderr().is_terminal() {
            if let Ok(style) = ProgressStyle::with_template("    {spinner} {msg} ({elapsed})") {
                bar.set_style(style);
            }
            bar.set_message(what.clone());
            bar.enable_steady_tick(Duration::from_millis(100));
        } else {
            note(&format!("{what} ..."));
        }
        Self { bar, what, since: Instant::now() }
    }

    /// Ends it with success.
    pub fn done(self) {
        self.bar.finish_and_clear();
        good(&format!("{} ({})", self.what, took(self.since.elapsed())));
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
