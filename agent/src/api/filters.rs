//! Docker's filters: `{"driver":{"bridge":true}}` as the command line sends them, or
//! `{"driver":["bridge"]}` as older clients do.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{pattern::Patterns, proto::Map};
use crate::state::Rejected;

/// Values of all filters of a request.
const VALUES: usize = 1_024;

/// What a list is narrowed by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Filters(BTreeMap<String, BTreeSet<String>>);

impl Filters {
    /// Reads the filters of a request; of keys that are not known there, the first is refused.
    pub(super) fn read(text: Option<&str>, known: &[&str]) -> Result<Self, Rejected> {
        let Some(text) = text else { return Ok(Self::default()) };
        let invalid = || Rejected::invalid("invalid filters: they are a JSON object of lists");
        let value: Value = serde_json::from_str(text)
            .map_err(|error| Rejected::invalid(format!("invalid filters: {error}")))?;
        let mut filters = BTreeMap::new();
        let mut count = 0;
        for (key, values) in value.as_object().ok_or_else(invalid)? {
            if !known.contains(&key.as_str()) {
                return Err(Rejected::invalid(format!("invalid filter '{key}'")));
            }
            let values: BTreeSet<String> = match values {
                // A value that is switched off is none.
                Value::Object(set) => {
                    let on = set.iter().filter(|(_, on)| **on != Value::Bool(false));
                    on.map(|(value, _)| value.clone()).collect()
                }
                Value::Array(list) => list
                    .iter()
                    .map(|v| v.as_str().map(str::to_owned).ok_or_else(invalid))
                    .collect::<Result<_, _>>()?,
                _ => return Err(invalid()),
            };
            count += values.len();
            filters.insert(key.clone(), values);
        }
        if count > VALUES {
            let why = format!("invalid filters: {count} values, at most {VALUES} are allowed");
            return Err(Rejected::invalid(why));
        }
        Ok(Self(filters))
    }

    /// Returns the values of a key.
    pub(super) fn get(&self, key: &str) -> impl Iterator<Item = &str> {
        self.0.get(key).into_iter().flatten().map(String::as_str)
    }

    /// Tells whether a key has values.
    pub(super) fn has(&self, key: &str) -> bool {
        self.get(key).next().is_some()
    }

    /// Tells whether nothing is asked for under a key, or one of its values fits.
    pub(super) fn any(&self, key: &str, fits: impl FnMut(&str) -> bool) -> bool {
        !self.has(key) || self.get(key).any(fits)
    }

    /// Tells whether nothing is asked for under a key, or this very value.
    pub(super) fn exactly(&self, key: &str, value: &str) -> bool {
        self.any(key, |wanted| wanted == value)
    }

    /// Returns the values of a key as the patterns that they are.
    pub(super) fn patterns(&self, key: &str) -> Result<Patterns, Rejected> {
        Patterns::new(self.get(key))
    }

    /// Tells whether labels have everything that is asked for, `KEY` or `KEY=VALUE`.
    pub(super) fn labels(&self, labels: &Map) -> bool {
        self.get("label").all(|wanted| has_label(wanted, labels))
    }

    /// Reads the one switch of a key.
    pub(super) fn switch(&self, key: &str) -> Result<Option<bool>, Rejected> {
        let mut values = self.get(key);
        let Some(value) = values.next() else { return Ok(None) };
        if values.next().is_some() {
            let why = format!("got more than one value for filter key \"{key}\"");
            return Err(Rejected::invalid(why));
        }
        match value {
            "0" | "false" => Ok(Some(false)),
            "1" | "true" => Ok(Some(true)),
            _ => Err(Rejected::invalid(format!(
                "invalid value for filter '{key}', must be \"true\" (or \"1\"), or \"false\" (or \"0\")"
            ))),
        }
    }
}

fn has_label(wanted: &str, labels: &Map) -> bool {
    match wanted.split_once('=') {
        Some((key, value)) => labels.get(key).is_some_and(|found| found == value),
        None => labels.contains_key(wanted),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_are_read() {
        let set = Filters::read(Some(r#"{"driver":{"bridge":true,"host":false}}"#), &["driver"]);
        let list = Filters::read(Some(r#"{"driver":["bridge"]}"#), &["driver"]);
        assert_eq!(set, list);
        assert!(list.expect("filters").exactly("driver", "bridge"));
    }

    #[test]
    fn what_is_no_filter_is_refused() {
        let message = |text| Filters::read(Some(text), &["name"]).expect_err(text).message;
        assert_eq!(message(r#"{"foo":["x"]}"#), "invalid filter 'foo'");
        for text in ["", "[]", "{", "3", r#"{"name":3}"#, r#"{"name":[3]}"#, r#"{"name":null}"#] {
            assert!(message(text).starts_with("invalid filters"), "{text}");
        }
        let many: Vec<_> = (0..2_000).map(|n| format!("\"{n}\"")).collect();
        assert!(message(&format!("{{\"name\":[{}]}}", many.join(","))).contains("2000 values"));
    }
}
