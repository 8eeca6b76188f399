//! From the text of a template to its pieces: text, and the words of actions.

/// A piece of a template.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Piece {
    /// Text that stands for itself.
    Text(String),
    /// What stands between `{{` and `}}`.
    Action(Vec<Token>),
}

/// A word of an action.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// A keyword or the name of a function.
    Word(String),
    /// `.Name`; `glued` where it follows its value without a blank.
    Field { name: String, glued: bool },
    /// `.` alone.
    Dot,
    /// `$name`; `$` alone is the empty name.
    Variable(String),
    /// A string between quotes.
    Text(String),
    /// A number, as it is written.
    Number(String),
    /// One of `|`, `(`, `)`, `,`, `:=`, `=`.
    Mark(&'static str),
}

const BLANK: [char; 4] = [' ', '\t', '\r', '\n'];

/// Takes a template apart.
pub(super) fn pieces(template: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut rest = template;
    let mut trim = false;
    loop {
        let (text, after) = rest.split_once("{{").map_or((rest, None), |(t, a)| (t, Some(a)));
        let text = if trim { text.trim_start_matches(BLANK) } else { text };
        let trims_before = after.is_some_and(|a| a.starts_with('-') && a[1..].starts_with(BLANK));
        let text = if trims_before { text.trim_end_matches(BLANK) } else { text };
        if !text.is_empty() {
            // On a command line, tabs and line ends are written so.
            pieces.push(Piece::Text(text.replace("\\t", "\t").replace("\\n", "\n")));
        }
        let Some(after) = after else { return Ok(pieces) };
        let after = if trims_before { &after[1..] } else { after };
        let (tokens, left, trims_after) = action(after)?;
        if !tokens.is_empty() {
            pieces.push(Piece::Action(tokens));
        } else if !after.trim_start().starts_with("/*") {
            return Err("missing value for command".to_owned());
        }
        (rest, trim) = (left, trims_after);
    }
}

/// Reads an action up to its end; returns the rest, and whether blanks go that follow.
fn action(text: &str) -> Result<(Vec<Token>, &str, bool), String> {
    let mut tokens = Vec::new();
    let mut rest = text;
    if let Some(comment) = rest.trim_start_matches(BLANK).strip_prefix("/*") {
        rest = comment.split_once("*/").ok_or("unclosed comment")?.1;
    }
    loop {
        let blank = rest.starts_with(BLANK);
        rest = rest.trim_start_matches(BLANK);
        if blank && let Some(after) = rest.strip_prefix("-}}") {
            return Ok((tokens, after, true));
        }
        if let Some(after) = rest.strip_prefix("}}") {
            return Ok((tokens, after, false));
        }
        let glued = !blank && !tokens.is_empty();
        let (token, after) = token(rest, glued)?;
        tokens.push(token);
        rest = after;
    }
}

fn token(text: &str, glued: bool) -> Result<(Token, &str), String> {
    for mark in [":=", "|", "(", ")", ",", "="] {
        if let Some(after) = text.strip_prefix(mark) {
            return Ok((Token::Mark(mark), after));
        }
    }
    let word = |c: char| c.is_alphanumeric() || c == '_';
    let split = |text: &str| {
        let end = text.find(|c| !word(c)).unwrap_or(text.len());
        (text[..end].to_owned(), end)
    };
    let first = text.chars().next().ok_or("unclosed action")?;
    match first {
        '"' => quoted(&text[1..]),
        '`' => {
            let (raw, after) = text[1..].split_once('`').ok_or("unterminated raw quoted string")?;
            Ok((Token::Text(raw.to_owned()), after))
        }
        '.' => match split(&text[1..]) {
            (_, 0) => Ok((Token::Dot, &text[1..])),
            (name, end) => Ok((Token::Field { name, glued }, &text[1 + end..])),
        },
        '$' => {
            let (name, end) = split(&text[1..]);
            Ok((Token::Variable(name), &text[1 + end..]))
        }
        '0'..='9' | '-' | '+' => {
            let end = text[1..].find(|c: char| !word(c) && c != '.').map_or(text.len(), |e| e + 1);
            Ok((Token::Number(text[..end].to_owned()), &text[end..]))
        }
        first if word(first) => {
            let (name, end) = split(text);
            Ok((Token::Word(name), &text[end..]))
        }
        other => Err(format!("unexpected {other:?} in command")),
    }
}

/// Reads a string after its first quote.
fn quoted(text: &str) -> Result<(Token, &str), String> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((Token::Text(value), &text[at + 1..])),
            '\n' => break,
            '\\' => value.push(match chars.next() {
                Some((_, 'n')) => '\n',
                Some((_, 't')) => '\t',
                Some((_, 'r')) => '\r',
                Some((_, same @ ('\\' | '"' | '\''))) => same,
                _ => return Err("invalid escape in a quoted string".to_owned()),
            }),
            c => value.push(c),
        }
    }
    Err("unterminated quoted string".to_owned())
}
