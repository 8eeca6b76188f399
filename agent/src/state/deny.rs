//! The deny list: prefixes come and go.

use std::collections::BTreeSet;

use super::{Facts, Kind, Outcome, Rejected};
use crate::model::{Comment, Denial, Desired, Prefix};

pub(super) fn add(
    desired: &mut Desired,
    prefixes: &[String],
    comment: &str,
    force: bool,
    facts: &Facts,
) -> Result<Outcome, Rejected> {
    let comment: Comment = comment.parse().map_err(Rejected::invalid)?;
    let prefixes = read(prefixes)?;
    for prefix in &prefixes {
        if let Some(danger) = prefix.danger().filter(|_| !force) {
            return Err(Rejected::forbidden(format!(
                "{prefix} is not denied: {danger}; if that is meant, force it"
            )));
        }
        if desired.denials.contains_key(prefix) {
            return Err(Rejected::conflict(format!("{prefix} is already on the deny list")));
        }
    }
    for &prefix in &prefixes {
        let limit = bascule_common::abi::deny::SLOTS - 1;
        let slot = desired.indices.denials.take();
        let slot = slot.ok_or_else(|| Rejected::exhausted("prefixes on the deny list", limit))?;
        let denial = Denial { prefix, slot, comment: comment.clone(), created: facts.now };
        desired.denials.insert(prefix, denial);
    }
    Ok(Outcome::Denials(prefixes))
}

pub(super) fn remove(desired: &mut Desired, prefixes: &[String]) -> Result<Outcome, Rejected> {
    let prefixes = read(prefixes)?;
    for prefix in &prefixes {
        let Some(gone) = desired.denials.remove(prefix) else {
            return Err(Rejected::new(Kind::NotFound, format!("{prefix} is not on the deny list")));
        };
        desired.indices.denials.free(gone.slot);
    }
    Ok(Outcome::Denials(prefixes))
}

/// Takes back what was put on the list.
pub(super) fn revert(before: &Desired, next: &mut Desired) {
    for denial in next.denials.values().filter(|d| !before.denials.contains_key(&d.prefix)) {
        next.indices.denials.free(denial.slot);
    }
    next.denials.retain(|prefix, _| before.denials.contains_key(prefix));
}

/// Reads prefixes; each may be there once.
fn read(texts: &[String]) -> Result<Vec<Prefix>, Rejected> {
    if texts.is_empty() {
        return Err(Rejected::invalid("no prefix is given"));
    }
    let mut seen = BTreeSet::new();
    let mut prefixes = Vec::with_capacity(texts.len());
    for text in texts {
        let prefix: Prefix = text.parse().map_err(Rejected::invalid)?;
        if !seen.insert(prefix) {
            return Err(Rejected::invalid(format!("{prefix} is given twice")));
        }
        prefixes.push(prefix);
    }
    Ok(prefixes)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::{
        model::{NetworkId, Predefined},
        state::{Change, change},
    };

    fn desired() -> Desired {
        let (host, none) = (NetworkId::new([1; 32]), NetworkId::new([2; 32]));
        Desired::new(Predefined { host, none, created: Timestamp::UNIX_EPOCH }, 1)
    }

    fn deny(prefixes: &[&str], force: bool) -> Change {
        let prefixes = prefixes.iter().map(ToString::to_string).collect();
        Change::Deny { prefixes, comment: "c".into(), force }
    }

    fn refusal(desired: &Desired, change: &Change) -> String {
        let refused = change::apply(desired, change, &mut Facts::sample()).expect_err("refused");
        format!("{} {}", refused.status(), refused.message)
    }

    #[test]
    fn each_prefix_has_a_slot_of_its_own_and_gives_it_back() {
        let mut facts = Facts::sample();
        let add = deny(&["198.51.100.0/24", "2001:db8::/32", "198.51.100.7"], false);
        let (with, _) = change::apply(&desired(), &add, &mut facts).expect("accepted");
        let slots: BTreeSet<_> = with.denials.values().map(|d| d.slot).collect();
        assert_eq!(slots, BTreeSet::from([1, 2, 3]));
        let remove = Change::Undeny(vec!["198.51.100.7/32".into()]);
        let (without, _) = change::apply(&with, &remove, &mut facts).expect("accepted");
        assert_eq!((without.denials.len(), without.indices.denials.in_use(3)), (2, false));
        let reverted = change::revert(&desired(), &without);
        assert_eq!((reverted.denials.len(), reverted.indices.denials.in_use(1)), (0, false));
    }

    #[test]
    fn one_bad_prefix_refuses_all_of_them() {
        let mut facts = Facts::sample();
        let (with, _) =
            change::apply(&desired(), &deny(&["198.51.100.0/24"], false), &mut facts).expect("ok");
        for (change, refused) in [
            (deny(&["203.0.113.0/24", "x"], false), "400 invalid prefix \"x\""),
            (
                deny(&["203.0.113.0/24", "203.0.113.0/24"], false),
                "400 203.0.113.0/24 is given twice",
            ),
            (deny(&["203.0.113.0/24", "198.51.100.0/24"], false), "409 198.51.100.0/24 is already"),
            (deny(&["0.0.0.0/0"], false), "403 0.0.0.0/0 is not denied: it is everyone"),
            (deny(&[], false), "400 no prefix is given"),
            (Change::Undeny(vec!["203.0.113.0/24".into()]), "404 203.0.113.0/24 is not on"),
            (Change::Undeny(vec!["198.51.100.0/24".into(), "::1".into()]), "404 ::1/128 is not on"),
        ] {
            let message = refusal(&with, &change);
            assert!(message.starts_with(refused), "{message}");
        }
        assert!(change::apply(&with, &deny(&["0.0.0.0/0"], true), &mut facts).is_ok());
    }

    #[test]
    fn the_list_has_an_end() {
        let prefixes: Vec<String> = (0..bascule_common::abi::deny::SLOTS)
            .map(|n| std::net::Ipv4Addr::from(0x0a00_0000 + n).to_string())
            .collect();
        let change = Change::Deny { prefixes, comment: String::new(), force: false };
        let message = refusal(&desired(), &change);
        assert!(message.starts_with("503 too many prefixes on the deny list: 16383"), "{message}");
    }
}
