//! What a template can call: Go's functions and Docker's.

use std::cmp::Ordering;

use serde_json::Value;

use super::print;

/// Tells whether a value counts as true: it is not empty.
pub(super) fn truth(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    }
}

/// Calls a function.
pub(super) fn call(name: &str, values: &[Value]) -> Result<Value, String> {
    let wrong =
        |want: &str| format!("wrong number of args for {name}: want {want} got {}", values.len());
    let one = || match values {
        [value] => Ok(value),
        _ => Err(wrong("1")),
    };
    Ok(match name {
        "json" => one()?.to_string().into(),
        "lower" => text(one()?).to_lowercase().into(),
        "upper" => text(one()?).to_uppercase().into(),
        "title" => title(&text(one()?)).into(),
        "println" => {
            let all: Vec<_> = values.iter().map(print::value).collect();
            (all.join(" ") + "\n").into()
        }
        "print" => print::joined(values).into(),
        "printf" => match values {
            [format, rest @ ..] => print::formatted(&text(format), rest).into(),
            [] => return Err(wrong("at least 1")),
        },
        "not" => (!truth(one()?)).into(),
        "len" => length(one()?)?.into(),
        "index" => match values {
            [of, keys @ ..] => keys.iter().try_fold(of.clone(), |of, key| index(&of, key))?,
            [] => return Err(wrong("at least 1")),
        },
        "slice" => match values {
            [of, from] => slice(of, from, None)?,
            [of, from, to] => slice(of, from, Some(to))?,
            _ => return Err(wrong("2 or 3")),
        },
        "split" => match values {
            [of, by] if text(by).is_empty() => {
                text(of).chars().map(String::from).collect::<Vec<_>>().into()
            }
            [of, by] => text(of).split(&text(by)).map(String::from).collect::<Vec<_>>().into(),
            _ => return Err(wrong("2")),
        },
        "join" => match values {
            [Value::Array(items), by] => {
                items.iter().map(print::value).collect::<Vec<_>>().join(&text(by)).into()
            }
            [Value::Null, _] => "".into(),
            [_, _] => return Err("join wants a list".to_owned()),
            _ => return Err(wrong("2")),
        },
        "pad" => match values {
            [of, before, after] if truth(of) => {
                let blanks = |n: &Value| Ok::<_, String>(" ".repeat(number(n)?.min(1_000)));
                (blanks(before)? + &text(of) + &blanks(after)?).into()
            }
            [of, _, _] => of.clone(),
            _ => return Err(wrong("3")),
        },
        "truncate" => match values {
            [of, to] => text(of).chars().take(number(to)?).collect::<String>().into(),
            _ => return Err(wrong("2")),
        },
        "eq" => match values {
            [first, rest @ ..] if !rest.is_empty() => {
                rest.iter().any(|other| order(first, other) == Some(Ordering::Equal)).into()
            }
            _ => return Err(wrong("at least 2")),
        },
        "ne" | "lt" | "le" | "gt" | "ge" => match values {
            [a, b] => compare(name, a, b)?.into(),
            _ => return Err(wrong("2")),
        },
        _ => return Err(format!("function {name:?} not defined")),
    })
}

fn compare(name: &str, a: &Value, b: &Value) -> Result<bool, String> {
    let order = order(a, b);
    if name == "ne" {
        return Ok(order != Some(Ordering::Equal));
    }
    let order = order.ok_or("incompatible types for comparison")?;
    Ok(match name {
        "lt" => order.is_lt(),
        "le" => order.is_le(),
        "gt" => order.is_gt(),
        _ => order.is_ge(),
    })
}

fn order(a: &Value, b: &Value) -> Option<Ordering> {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64()?.partial_cmp(&b.as_f64()?),
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        (a, b) => (a == b).then_some(Ordering::Equal),
    }
}

fn text(value: &Value) -> String {
    print::value(value)
}

fn number(value: &Value) -> Result<usize, String> {
    let number = value.as_u64().and_then(|number| usize::try_from(number).ok());
    number.ok_or_else(|| format!("{} is no number of characters", print::value(value)))
}

fn length(value: &Value) -> Result<usize, String> {
    match value {
        Value::String(text) => Ok(text.len()),
        Value::Array(items) => Ok(items.len()),
        Value::Object(fields) => Ok(fields.len()),
        Value::Null => Err("len of nil pointer".to_owned()),
        other => Err(format!("len of {other}")),
    }
}

fn index(of: &Value, key: &Value) -> Result<Value, String> {
    match (of, key) {
        (Value::Object(fields), Value::String(key)) => {
            Ok(fields.get(key).cloned().unwrap_or_default())
        }
        (Value::Array(items), key) => {
            let found = key.as_u64().and_then(|at| items.get(usize::try_from(at).ok()?));
            found.cloned().ok_or_else(|| format!("error calling index: index out of range: {key}"))
        }
        (Value::Null, _) => Err("error calling index: index of untyped nil".to_owned()),
        _ => Err(format!("error calling index: can't index {} by {key}", print::value(of))),
    }
}

fn slice(of: &Value, from: &Value, to: Option<&Value>) -> Result<Value, String> {
    let out = || "error calling slice: index out of range".to_owned();
    let from = number(from)?;
    let to = to.map(number).transpose()?;
    match of {
        Value::String(text) => {
            text.get(from..to.unwrap_or(text.len())).map(Value::from).ok_or_else(out)
        }
        Value::Array(items) => items
            .get(from..to.unwrap_or(items.len()))
            .map(|items| Value::from(items.to_vec()))
            .ok_or_else(out),
        _ => Err(format!("error calling slice: can't slice {}", print::value(of))),
    }
}

fn title(text: &str) -> String {
    let mut begins = true;
    text.chars()
        .flat_map(|c| {
            let upper = begins && c.is_alphabetic();
            begins = !c.is_alphanumeric() && c != '_' && c != '\'';
            if upper { c.to_uppercase().collect::<Vec<_>>() } else { vec![c] }
        })
        .collect()
}
