//! What is printed: tables in the layout that `docker` uses, JSON, and templates on JSON.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::{Value, ser::PrettyFormatter};

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

/// Writes text as it is.
pub fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
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
    let mut widths = titles.map(str::len);
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    let mut add = |cells: [&str; N]| {
        for (column, (cell, width)) in cells.iter().zip(widths).enumerate() {
            text.push_str(cell);
            if column + 1 < N {
                let padded = (width + GAP).max(NARROWEST);
                text.extend(std::iter::repeat_n(' ', padded - cell.chars().count()));
            }
        }
        text.truncate(text.trim_end_matches(' ').len());
        text.push('\n');
    };
    add(titles);
    for row in rows {
        add(std::array::from_fn(|column| row[column].as_str()));
    }
    text
}

/// Shortens an id, unless it is to be shown in full.
pub fn id(id: &str, full: bool) -> &str {
    if full { id } else { id.get(..SHORT).unwrap_or(id) }
}

/// Fills a template from a value: `{{.A.B}}` for a field and `{{json .A.B}}` for its JSON, the part
/// of Go's templates that scripts around docker use most.
pub fn fill(template: &str, value: &Value) -> Result<String, Failure> {
    let mut text = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        let (inside, after) = after
            .split_once("}}")
            .ok_or_else(|| bad_template(template, "a `{{` is not closed by `}}`"))?;
        text.push_str(before);
        text.push_str(
            &expression(inside.trim(), value).map_err(|why| bad_template(template, &why))?,
        );
        rest = after;
    }
    text.push_str(rest);
    Ok(text.replace("\\t", "\t").replace("\\n", "\n"))
}

fn bad_template(template: &str, why: &str) -> Failure {
    Failure::usage(format!("cannot use the template {template:?}: {why}"))
        .hint("{{.Field.Field}} and {{json .Field}} are understood; use --output json for more")
}

fn expression(text: &str, value: &Value) -> Result<String, String> {
    let (as_json, path) = match text.strip_prefix("json ") {
        Some(path) => (true, path.trim()),
        None => (false, text),
    };
    let Some(fields) = path.strip_prefix('.') else {
        return Err(format!("`{text}` is not a field"));
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.' || c == '-';
    if !fields.chars().all(plain) {
        return Err(format!("`{text}` is more than a field"));
    }
    let mut found = value;
    for field in fields.split('.').filter(|field| !field.is_empty()) {
        found = found.get(field).ok_or_else(|| format!("there is no field `{field}`"))?;
    }
    Ok(if as_json { found.to_string() } else { as_go(found) })
}

/// Prints a value as Go prints it.
fn as_go(value: &Value) -> String {
    match value {
        Value::Null => "<no value>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            format!("[{}]", items.iter().map(as_go).collect::<Vec<_>>().join(" "))
        }
        Value::Object(fields) => {
            let fields = fields.iter().map(|(key, value)| format!("{key}:{}", as_go(value)));
            format!("map[{}]", fields.collect::<Vec<_>>().join(" "))
        }
        other => other.to_string(),
    }
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

    #[test]
    fn templates_that_are_more_than_fields_are_refused() {
        let value = serde_json::json!({"A": 1});
        for template in ["{{range .A}}", "{{.A", "{{.Nope}}", "{{len .A}}", "{{index .A 1}}"] {
            let failure = fill(template, &value).expect_err(template);
            assert_eq!(failure.code(), 2, "{template}");
        }
    }
}
