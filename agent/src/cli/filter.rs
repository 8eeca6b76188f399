//! `--filter`: what a list leaves out.

use super::args::KeyValue;
use crate::error::Failure;

/// Tells whether an object passes: alternatives of one key, all keys together, as docker has it.
///
/// `test` answers for one filter, or nothing where the key means nothing for these objects.
pub fn passes(
    filters: &[KeyValue],
    test: impl Fn(&KeyValue) -> Option<bool>,
) -> Result<bool, Failure> {
    for filter in filters {
        let mut any = false;
        for same in filters.iter().filter(|other| other.key == filter.key) {
            any |= test(same)
                .ok_or_else(|| Failure::usage(format!("invalid filter '{}'", same.key)))?;
        }
        // Every label has to be there; of other keys, one value.
        if filter.key == "label" {
            any = test(filter).unwrap_or_default();
        }
        if !any {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Refuses filters that mean nothing, also where the list is empty.
pub fn check(filters: &[KeyValue], known: &[&str]) -> Result<(), Failure> {
    match filters.iter().find(|filter| !known.contains(&filter.key.as_str())) {
        Some(filter) => Err(Failure::usage(format!("invalid filter '{}'", filter.key))
            .hint(format!("known are {}", known.join(", ")))),
        None if filters.iter().any(|filter| !filter.has_value) => {
            Err(Failure::usage("a filter is written KEY=VALUE"))
        }
        None => Ok(()),
    }
}

/// Tells whether labels have `KEY` or `KEY=VALUE`.
pub fn has_label(labels: &std::collections::BTreeMap<String, String>, wanted: &str) -> bool {
    match wanted.split_once('=') {
        Some((key, value)) => labels.get(key).is_some_and(|found| found == value),
        None => labels.contains_key(wanted),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filters(texts: &[&str]) -> Vec<KeyValue> {
        texts.iter().map(|text| text.parse().expect("a filter")).collect()
    }

    fn run(texts: &[&str]) -> Option<bool> {
        passes(&filters(texts), |filter| match filter.key.as_str() {
            "name" => Some("blue".contains(&filter.value)),
            "driver" => Some(filter.value == "bridge"),
            "label" => Some(filter.value == "a" || filter.value == "b"),
            _ => None,
        })
        .ok()
    }

    #[test]
    fn values_of_a_key_are_alternatives_and_keys_add_up() {
        assert_eq!(run(&[]), Some(true));
        assert_eq!(run(&["name=blu"]), Some(true));
        assert_eq!(run(&["name=red", "name=blue"]), Some(true));
        assert_eq!(run(&["name=blue", "driver=host"]), Some(false));
        assert_eq!(run(&["label=a", "label=c"]), Some(false));
        assert_eq!(run(&["foo=1"]), None);
    }

    #[test]
    fn unknown_filters_are_usage_errors() {
        let failure = check(&filters(&["foo=1"]), &["name"]).expect_err("unknown");
        assert_eq!(failure.code(), 2);
        assert!(failure.to_string().contains("invalid filter 'foo'"));
        assert!(check(&filters(&["name"]), &["name"]).is_err());
        assert!(check(&filters(&["name=x"]), &["name"]).is_ok());
    }

    #[test]
    fn labels_match_by_key_or_pair() {
        let labels = [("a".to_owned(), "1".to_owned())].into();
        assert!(has_label(&labels, "a"));
        assert!(has_label(&labels, "a=1"));
        assert!(!has_label(&labels, "a=2"));
        assert!(!has_label(&labels, "b"));
    }
}
