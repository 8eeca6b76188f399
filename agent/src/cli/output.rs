//! What is printed: tables in the layout that `docker` uses, JSON, and templates on JSON.

use std::{
    io::{self, Write},
    ops::ControlFlow,
    os::fd::AsFd as _,
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::Serialize;
use serde_json::{Value, ser::PrettyFormatter};

use super::template::Template;
use crate::error::Failure;

/// Narrowest column, and what stands between two: as docker's tabwriter has them.
const NARROWEST: usize = 10;
const GAP: usize = 3;
/// Digits of a short id.
const SHORT: usize = 12;

/// Writes a line. A reader that went away is no error: it had enough.
pub fn line(text: impl AsRef<str>) -> io::Result<()> {
    print(&format!("{}\n", text.as_ref()))
}

/// Writes a line of many; breaks off when nobody reads them any more.
pub fn told(text: impl AsRef<str>) -> io::Result<ControlFlow<()>> {
    write(&format!("{}\n", text.as_ref()))
}

/// Tells whether nobody reads what is printed any more: the other end of a pipe is closed.
pub fn is_left() -> bool {
    let out = io::stdout();
    let mut ends = [PollFd::new(out.as_fd(), PollFlags::empty())];
    poll(&mut ends, PollTimeout::ZERO).is_ok()
        && ends[0].revents().is_some_and(|events| events.contains(PollFlags::POLLERR))
}

/// Writes text as it is.
pub fn print(text: &str) -> io::Result<()> {
    write(text).map(drop)
}

/// Writes text, and tells whether somebody reads it.
fn write(text: &str) -> io::Result<ControlFlow<()>> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ControlFlow::Break(())),
        result => result.map(ControlFlow::Continue),
    }
}

/// Writes a line for people to standard error.
pub fn complain(text: impl AsRef<str>) {
    // Where nobody reads it, there is nobody to be told.
    writeln!(io::stderr().lock(), "{}", text.as_ref()).ok();
}

/// Writes a value as JSON, indented as docker does.
pub fn json(value: &impl Serialize) -> Result<(), Failure> {
    let mut text = Vec::new();
    let mut to =
        serde_json::Serializer::with_formatter(&mut text, PrettyFormatter::with_indent(b"    "));
    value.serialize(&mut to).map_err(anyhow::Error::from)?;
    line(String::from_utf8_lossy(&text))?;
    Ok(())
}

/// Lays rows out in columns below their titles. The last column is not padded.
pub fn table<const N: usize>(titles: [&str; N], rows: &[[String; N]]) -> String {
    let titles = titles.map(String::from).to_vec();
    let rows = rows.iter().map(|row| row.to_vec());
    columns(&std::iter::once(titles).chain(rows).collect::<Vec<_>>())
}

/// Lays rows out in columns, the first row as titles.
pub fn columns(rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = Vec::new();
    for row in rows {
        widths.resize(widths.len().max(row.len()), 0);
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in rows {
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            text.push_str(cell);
            if column + 1 < row.len() {
                let padded = (width + GAP).max(NARROWEST);
                text.extend(std::iter::repeat_n(' ', padded - cell.chars().count()));
            }
        }
        text.truncate(text.trim_end_matches(' ').len());
        text.push('\n');
    }
    text
}

/// Prints each row of a list in a format: `json`, a template, or `table` and a template, with titles above.
pub fn list(format: &str, titles: &Value, rows: &[Value]) -> Result<(), Failure> {
    let format = if format == "json" { "{{json .}}" } else { format };
    let Some(cells) = format.strip_prefix("table ") else {
        let template = Template::new(format)?;
        for row in rows {
            line(template.fill(row)?)?;
        }
        return Ok(());
    };
    let template = Template::new(cells.trim())?;
    let filled = std::iter::once(titles).chain(rows).map(|row| template.fill(row));
    let split = |text: String| text.split('\t').map(str::to_owned).collect();
    let rows: Vec<Vec<String>> = filled.map(|text| text.map(split)).collect::<Result<_, _>>()?;
    print(&columns(&rows))?;
    Ok(())
}

/// Shortens an id, unless it is to be shown in full.
pub fn id(id: &str, full: bool) -> &str {
    if full { id } else { id.get(..SHORT).unwrap_or(id) }
}

/// Fills a template of Go's from a value; `json` is all of it.
pub fn fill(template: &str, value: &Value) -> Result<String, Failure> {
    let template = if template == "json" { "{{json .}}" } else { template };
    Template::new(template)?.fill(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s7_the_table_of_networks_is_laid_out_as_docker_does() {
        let rows = [
            ["7fca4eb8c647", "bridge", "bridge", "local"].map(String::from),
            ["9f904ee27bf5", "none", "null", "local"].map(String::from),
            ["cf03ee007fb4", "a-long-name-here", "host", "local"].map(String::from),
        ];
        let golden = "\
NETWORK ID     NAME               DRIVER    SCOPE
7fca4eb8c647   bridge             bridge    local
9f904ee27bf5   none               null      local
cf03ee007fb4   a-long-name-here   host      local
";
        assert_eq!(table(["NETWORK ID", "NAME", "DRIVER", "SCOPE"], &rows), golden);
        assert_eq!(table::<2>(["A", "B"], &[]), "A         B\n");
    }

    #[test]
    fn empty_cells_leave_no_blanks_at_the_end() {
        let rows = [["x".to_owned(), String::new()]];
        assert_eq!(table(["A", "B"], &rows), "A         B\nx\n");
    }

    #[test]
    fn ids_are_shortened_to_twelve_digits() {
        let long = "0123456789abcdef";
        assert_eq!(id(long, false), "0123456789ab");
        assert_eq!(id(long, true), long);
        assert_eq!(id("abc", false), "abc");
    }

    #[test]
    fn s37_templates_name_fields() {
        let value =
            serde_json::json!({"State": {"Pid": 7}, "Name": "/c1", "Networks": {"a": {"IP": "x"}}});
        let fill = |template| fill(template, &value).expect("a good template");
        assert_eq!(fill("{{.State.Pid}}"), "7");
        assert_eq!(fill("{{ .Name }}\\t{{.State.Pid}}!"), "/c1\t7!");
        assert_eq!(fill("{{json .Networks}}"), r#"{"a":{"IP":"x"}}"#);
        assert_eq!(fill("{{.Networks}}"), "map[a:map[IP:x]]");
        assert_eq!(fill("plain"), "plain");
    }
}
