//! The terminal and who writes to it: keys, readings and signals come in by one channel.

use std::{
    io::{self, IsTerminal as _},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    thread,
};

use nix::sys::signal::{SigSet, Signal};
use ratatui::crossterm::event::{self, Event, KeyEventKind};

use super::{
    draw::{self, Looks},
    reader::Reader,
    view::{Reading, Step, View, Wanted},
};
use crate::error::{Failure, exit};

/// What comes in.
enum Input {
    Terminal(Event),
    Reading(Reading),
    /// A signal that asks for an end.
    Signal(Signal),
    /// Nobody types any more.
    Closed(io::Error),
}

/// Refuses what is no terminal, and finds out what it can show.
pub fn looks() -> Result<Looks, Failure> {
    const HINT: &str = "`bascule top -o json` and `bascule top --once` print one reading";
    if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        return Err(Failure::usage("bascule top needs a terminal to draw on").hint(HINT));
    }
    let term = std::env::var("TERM").unwrap_or_default();
    if term.is_empty() || term == "dumb" {
        let why = format!("bascule top cannot draw on a terminal of type {term:?} (TERM)");
        return Err(Failure::usage(why).hint(HINT));
    }
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
        .iter()
        .find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
        .unwrap_or_default()
        .to_ascii_uppercase();
    let unicode = locale.contains("UTF-8") || locale.contains("UTF8");
    Ok(Looks { colours: std::env::var_os("NO_COLOR").is_none(), unicode })
}

/// Shows everything until somebody has had enough.
pub fn run(mut view: View, looks: Looks, reader: Reader) -> Result<u8, Failure> {
    let ending = SigSet::from_iter([Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM]);
    // Threads that are made from here on have the same mask: one of them waits for these signals.
    ending.thread_block().map_err(io::Error::from)?;
    let (to, from) = mpsc::channel();
    let wanted = Arc::new(Mutex::new(view.wanted()));
    let awake = start(&to, ending, reader, Arc::clone(&wanted))?;
    // It also puts the terminal right where this process panics.
    let mut terminal = ratatui::try_init()?;
    let ended = show(&mut view, looks, &mut terminal, &from, &wanted, &awake);
    ratatui::try_restore()?;
    ended
}

/// Starts what waits for keys, for readings and for signals; what is returned has the next reading made at once.
fn start(
    to: &Sender<Input>,
    ending: SigSet,
    mut reader: Reader,
    wanted: Arc<Mutex<Wanted>>,
) -> io::Result<Sender<()>> {
    let thread = |name: &str| thread::Builder::new().name(name.to_owned());
    let keys = to.clone();
    thread("keys").spawn(move || {
        loop {
            let (input, last) = match event::read() {
                Ok(event) => (Input::Terminal(event), false),
                Err(error) => (Input::Closed(error), true),
            };
            if keys.send(input).is_err() || last {
                return;
            }
        }
    })?;
    let signals = to.clone();
    thread("signals").spawn(move || {
        if let Ok(signal) = ending.wait() {
            // Nobody is left to be told where this fails.
            drop(signals.send(Input::Signal(signal)));
        }
    })?;
    let (readings, (awake, woken)) = (to.clone(), mpsc::channel());
    thread("readings").spawn(move || {
        loop {
            let wanted = wanted.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if readings.send(Input::Reading(reader.read(&wanted))).is_err() {
                return;
            }
            if woken.recv_timeout(reader.interval()) == Err(RecvTimeoutError::Disconnected) {
                return;
            }
        }
    })?;
    Ok(awake)
}

fn show(
    view: &mut View,
    looks: Looks,
    terminal: &mut ratatui::DefaultTerminal,
    from: &Receiver<Input>,
    wanted: &Mutex<Wanted>,
    awake: &Sender<()>,
) -> Result<u8, Failure> {
    loop {
        terminal.draw(|frame| draw::draw(view, looks, frame))?;
        let Ok(first) = from.recv() else { return Ok(exit::OK) };
        // A held key is as good as its last press: what has come meanwhile is drawn at once.
        for input in std::iter::once(first).chain(from.try_iter()) {
            match input {
                Input::Terminal(Event::Key(key)) if key.kind != KeyEventKind::Release => {
                    if view.key(key) == Step::Quit {
                        return Ok(exit::OK);
                    }
                }
                // The next drawing asks for the size.
                Input::Terminal(_) => {}
                Input::Reading(reading) => view.take(reading),
                Input::Signal(signal) => return Ok(exit::of_signal(signal as i32)),
                Input::Closed(error) => {
                    return Err(Failure::new(format!("the terminal is gone: {error}")));
                }
            }
        }
        let mut wanted = wanted.lock().unwrap_or_else(PoisonError::into_inner);
        if *wanted != view.wanted() {
            *wanted = view.wanted();
            // Who reads has ended where this fails, and says so by the channel.
            let _ = awake.send(());
        }
    }
}
