//! What is wrong with JSON, in the words of Go, which Docker's clients are used to.

use serde_json::error::Category;

/// Words of one for words of the other, where the byte that is complained of is the same.
const WORDS: [(&str, &str); 10] = [
    ("key must be a string", "looking for beginning of object key string"),
    ("trailing comma", "looking for beginning of value"),
    ("expected value", "looking for beginning of value"),
    ("expected `,` or `}`", "after object key:value pair"),
    ("expected `,` or `]`", "after array element"),
    ("expected `:`", "after object key"),
    ("invalid escape", "in string escape code"),
    ("control character", "in string literal"),
    ("invalid number", "in numeric literal"),
    ("expected ident", "in literal"),
];

/// Says what is wrong with a body.
pub(super) fn fault(body: &[u8], error: &serde_json::Error) -> String {
    let text = error.to_string();
    match error.classify() {
        Category::Eof => return "unexpected EOF".to_owned(),
        Category::Syntax => {}
        Category::Io | Category::Data => return text,
    }
    let line = body.split(|byte| *byte == b'\n').nth(error.line().saturating_sub(1));
    let byte = line.and_then(|line| line.get(error.column().saturating_sub(1)));
    let words = WORDS.iter().find(|(theirs, _)| text.starts_with(theirs));
    match (byte, words) {
        (Some(byte), Some((_, words))) => {
            format!("invalid character '{}' {words}", byte.escape_ascii())
        }
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moby_api_001_json_is_refused_in_gos_words() {
        for (body, wanted) in [
            ("{invalid json", "invalid character 'i' looking for beginning of object key string"),
            ("nonsense", "invalid character 'o' in literal"),
            ("<html>", "invalid character '<' looking for beginning of value"),
            ("{\"a\" 1}", "invalid character '1' after object key"),
            ("{\"a\":1 \"b\"}", "invalid character '\\\"' after object key:value pair"),
            ("{\"a\":[1 2]}", "invalid character '2' after array element"),
            ("{\n\n\"a\":}", "invalid character '}' looking for beginning of value"),
            ("{\"a\":", "unexpected EOF"),
            ("{", "unexpected EOF"),
        ] {
            let error = serde_json::from_str::<serde_json::Value>(body).expect_err(body);
            assert_eq!(fault(body.as_bytes(), &error), wanted, "{body}: {error}");
        }
    }
}
