//! `bascule flows`: what the flow log has, of whom and when it is asked for.

use std::{
    collections::VecDeque,
    io,
    ops::ControlFlow::{self, Break, Continue},
    path::{Path, PathBuf},
    thread,
    time::{Duration, SystemTime},
};

use jiff::Timestamp;

use super::{Context, args, monitor, output, serve};
use crate::{
    api::monitor::{Filter, Past, Seen},
    error::{Failure, exit},
};

/// How often it is looked for more.
const PAUSE: Duration = Duration::from_millis(200);
/// What was may have been yesterday.
const TIME: &str = "%Y-%m-%d %H:%M:%S.%3f";

/// Prints what the log has, and what comes to it.
pub fn flows(context: &Context, args: args::Flows) -> Result<u8, Failure> {
    let path = args.file.clone().map_or_else(|| configured(context), Ok)?;
    let lists = monitor::lists(&args.types, &args.whose);
    let filter = Filter::read(lists.iter().map(|(key, list)| (*key, list.as_str())))
        .map_err(Failure::usage)?;
    let mut past = Past::open(&path, args.since.map(SystemTime::from))
        .map_err(|error| unreadable(&path, &error))?;
    let mut shown = Shown {
        json: args.format.unwrap_or(context.global.output) == args::Format::Json,
        paint: monitor::paints(),
        filter,
        strange: 0,
        args,
    };
    let mut goes_on = match shown.args.last {
        Some(last) => {
            let mut kept = VecDeque::new();
            let _all = read(&mut past, &path, &mut shown, |text| {
                kept.push_back(text);
                if kept.len() > last {
                    kept.pop_front();
                }
                Ok(Continue(()))
            })?;
            tell(kept)?
        }
        None => read(&mut past, &path, &mut shown, output::told)?,
    };
    while goes_on.is_continue() && shown.args.follow {
        goes_on = match output::is_left() {
            true => Break(()),
            false => {
                thread::sleep(PAUSE);
                read(&mut past, &path, &mut shown, output::told)?
            }
        };
    }
    if goes_on.is_continue() && shown.strange > 0 {
        let path = path.display();
        output::complain(format!("left out of {path}: {} lines that are no events", shown.strange));
    }
    Ok(exit::OK)
}

/// Does something with each line that is there now and asked for, as long as that goes on.
fn read(
    past: &mut Past,
    path: &Path,
    shown: &mut Shown,
    mut each: impl FnMut(String) -> io::Result<ControlFlow<()>>,
) -> Result<ControlFlow<()>, Failure> {
    while let Some(line) = past.line().map_err(|error| unreadable(path, &error))? {
        if let Some(text) = shown.text(&line)
            && each(text)?.is_break()
        {
            return Ok(Break(()));
        }
    }
    Ok(Continue(()))
}

fn tell(lines: VecDeque<String>) -> io::Result<ControlFlow<()>> {
    for text in lines {
        if output::told(text)?.is_break() {
            return Ok(Break(()));
        }
    }
    Ok(Continue(()))
}

/// What is shown, and how.
struct Shown {
    args: args::Flows,
    filter: Filter,
    json: bool,
    paint: bool,
    /// Lines that are no events.
    strange: u64,
}

impl Shown {
    /// Writes a line of the log, if it is asked for.
    fn text(&mut self, line: &[u8]) -> Option<String> {
        let Ok(seen) = serde_json::from_slice::<Seen>(line) else {
            self.strange += 1;
            return None;
        };
        let Ok(time) = seen.time.parse::<Timestamp>() else {
            self.strange += 1;
            return None;
        };
        let wanted = self.filter.takes(&seen)
            && self.args.since.is_none_or(|since| time >= since)
            && self.args.until.is_none_or(|until| time < until);
        match wanted {
            false => None,
            true if self.json => Some(String::from_utf8_lossy(line.trim_ascii()).into_owned()),
            true => Some(monitor::painted(&seen, TIME, self.paint)),
        }
    }
}

fn configured(context: &Context) -> Result<PathBuf, Failure> {
    serve::flow_log(&context.global)?.ok_or_else(|| {
        Failure::usage("no flow log is configured").hint(
            "name the file that the agent was told of (`bascule agent --flow-log FILE`) by --file, \
             or set `flow-log` in the configuration",
        )
    })
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    let failure = Failure::new(format!("cannot read the flow log {}: {error}", path.display()));
    match error.kind() {
        io::ErrorKind::NotFound => failure.hint(
            "an agent makes it when it starts with `--flow-log FILE`, or with `flow-log` in its configuration",
        ),
        io::ErrorKind::PermissionDenied => failure.hint("who talks to whom is for root to read"),
        _ => failure,
    }
}
