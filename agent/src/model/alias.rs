//! Further names of a container on a network: names that DNS takes.

/// The longest name and the longest part of one, in bytes.
pub(super) const NAME: usize = 253;
pub(super) const LABEL: usize = 63;

/// Says what is wrong with an alias, if something is.
pub fn wrong(alias: &str) -> Option<String> {
    let byte = |b: u8| b.is_ascii_alphanumeric() || b"-_".contains(&b);
    let label = |label: &str| {
        (1..=LABEL).contains(&label.len())
            && label.bytes().all(byte)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if alias.len() <= NAME && alias.split('.').all(label) {
        return None;
    }
    Some(format!(
        "invalid network alias {alias:?}: it has to be a name that DNS takes: letters, digits, - and _ in parts of 1 to {LABEL} bytes with dots between them, {NAME} bytes in all"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_are_names_that_dns_takes() {
        for good in ["db", "DB-1", "_sip._tcp", "a.b.c", "1", &"x".repeat(63)] {
            assert_eq!(wrong(good), None, "{good}");
        }
        for bad in ["", ".", "a..b", "a.", "-a", "a-", "a b", "a/b", "ä", "a\n", &"x".repeat(64)] {
            assert!(wrong(bad).is_some_and(|text| text.contains("network alias")), "{bad}");
        }
        assert!(wrong(&["x".repeat(60).as_str(); 5].join(".")).is_some());
    }
}
