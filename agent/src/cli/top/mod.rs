//! `bascule top`: who talks how much, full screen.
//!
//! [`view`] is what is shown and chosen, `rows` and `detail` what it says, `draw` how it looks, `screen` the terminal
//! around it, and `reader` asks the agent.

mod detail;
mod draw;
mod reader;
mod rows;
mod screen;
#[cfg(test)]
mod tests;
mod view;

use std::{thread, time::Duration};

use self::{
    reader::Reader,
    view::{Reading, View},
};
use super::{
    Context,
    args::{self, Format},
    output,
};
use crate::error::{Failure, exit};

/// Shows it until there was enough of it; for scripts, once.
pub fn top(context: &Context, args: &args::Top) -> Result<u8, Failure> {
    let json = args.format.unwrap_or(context.global.output) == Format::Json;
    let mut view = View::new(args.page, &args.filter);
    let once = args.once || json;
    let looks = if once { None } else { Some(screen::looks()?) };
    let interval = Duration::from_secs_f64(args.interval);
    let mut reader = Reader::new(context.client()?, interval);
    // Where there is no agent, that is said where the command was given.
    let (traffic, connections) = reader.try_read(&view.wanted())?;
    if let Some(looks) = looks {
        view.take(Reading::Good(Box::new(traffic), connections));
        return screen::run(view, looks, reader);
    }
    thread::sleep(interval);
    let (traffic, connections) = reader.try_read(&view.wanted())?;
    if json {
        output::json(&traffic)?;
        return Ok(exit::OK);
    }
    view.take(Reading::Good(Box::new(traffic), connections));
    if let Some(cut) = view.cut_off() {
        output::complain(format!("bascule: {cut} are read"));
    }
    let titles = view.page.columns().iter().map(|column| column.title.to_owned()).collect();
    let rows = view.rows();
    let cells = rows.into_iter().map(|row| row.cells.into_iter().map(|cell| cell.text).collect());
    output::print(&output::columns(&std::iter::once(titles).chain(cells).collect::<Vec<_>>()))?;
    Ok(exit::OK)
}
