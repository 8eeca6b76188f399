//! Values as Go prints them.

use serde_json::Value;

/// Prints a value as `%v` does.
pub(super) fn value(value: &Value) -> String {
    match value {
        Value::Null => "<no value>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            format!("[{}]", items.iter().map(self::value).collect::<Vec<_>>().join(" "))
        }
        Value::Object(fields) => {
            let fields = fields.iter().map(|(key, value)| format!("{key}:{}", self::value(value)));
            format!("map[{}]", fields.collect::<Vec<_>>().join(" "))
        }
        other => other.to_string(),
    }
}

/// Prints values as `fmt.Sprint` does: a blank between two of which neither is text.
pub(super) fn joined(values: &[Value]) -> String {
    let mut text = String::new();
    let mut before = true;
    for (at, value) in values.iter().enumerate() {
        let is_text = value.is_string();
        if at > 0 && !is_text && !before {
            text.push(' ');
        }
        text.push_str(&self::value(value));
        before = is_text;
    }
    text
}

/// Prints values as `fmt.Sprintf` does, as far as templates use it.
pub(super) fn formatted(format: &str, values: &[Value]) -> String {
    let mut text = String::new();
    let mut values = values.iter();
    let mut rest = format;
    while let Some((before, after)) = rest.split_once('%') {
        text.push_str(before);
        let end = after.find(|c: char| c.is_alphabetic() || c == '%').unwrap_or(after.len());
        let (flags, after) = after.split_at(end);
        let mut chars = after.chars();
        match chars.next() {
            None => text.push_str("%!(NOVERB)"),
            Some('%') => text.push('%'),
            Some(verb) => match values.next() {
                Some(value) => text.push_str(&verb_of(flags, verb, value)),
                None => text.push_str(&format!("%!{verb}(MISSING)")),
            },
        }
        rest = chars.as_str();
    }
    text.push_str(rest);
    let left: Vec<_> = values.map(value).collect();
    if !left.is_empty() {
        text.push_str(&format!("%!(EXTRA {})", left.join(", ")));
    }
    text
}

fn verb_of(flags: &str, verb: char, shown: &Value) -> String {
    let (width, precision) = flags.split_once('.').unwrap_or((flags, ""));
    let plain = match (verb, shown) {
        ('q', _) => format!("{:?}", value(shown)),
        ('x', Value::Number(number)) if number.is_u64() => {
            format!("{:x}", number.as_u64().unwrap_or_default())
        }
        ('f', Value::Number(number)) => {
            let digits = precision.parse().unwrap_or(6);
            format!("{:.digits$}", number.as_f64().unwrap_or_default())
        }
        ('s' | 'v', _) if !precision.is_empty() => {
            value(shown).chars().take(precision.parse().unwrap_or(usize::MAX)).collect()
        }
        ('s' | 'v' | 'd' | 't', _) => value(shown),
        _ => return format!("%!{verb}({})", value(shown)),
    };
    let left = width.contains('-');
    let zero = width.starts_with('0') && shown.is_number();
    let width: usize = width.trim_start_matches(['-', '+', '0']).parse().unwrap_or(0);
    let fill = width.saturating_sub(plain.chars().count());
    match (left, zero) {
        (true, _) => plain + &" ".repeat(fill),
        (false, true) => "0".repeat(fill) + &plain,
        (false, false) => " ".repeat(fill) + &plain,
    }
}
