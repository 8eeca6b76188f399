//! Sets of ports as Linux writes them: `80,443,8000-8999`. Pure.

use std::fmt;

/// A set of ports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortSet {
    /// Ascending; two ranges neither overlap nor touch.
    ranges: Vec<(u16, u16)>,
}

impl PortSet {
    /// The set of some ranges, in any order, both ends included; a reversed range is empty.
    pub fn of(ranges: impl IntoIterator<Item = (u16, u16)>) -> Self {
        let mut ranges: Vec<_> = ranges.into_iter().filter(|(first, last)| first <= last).collect();
        ranges.sort_unstable();
        let mut merged: Vec<(u16, u16)> = Vec::with_capacity(ranges.len());
        for (first, last) in ranges {
            match merged.last_mut() {
                Some(before) if u32::from(first) <= u32::from(before.1) + 1 => {
                    before.1 = before.1.max(last);
                }
                _ => merged.push((first, last)),
            }
        }
        Self { ranges: merged }
    }

    /// Reads Linux's form; `None` if it is not one.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        if text.is_empty() {
            return Some(Self::default());
        }
        let range = |part: &str| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
            (first <= last).then_some((first, last))
        };
        text.split(',').map(range).collect::<Option<Vec<_>>>().map(Self::of)
    }

    /// Its ranges, ascending, both ends included.
    pub fn ranges(&self) -> &[(u16, u16)] {
        &self.ranges
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Whether a port is in it.
    pub fn contains(&self, port: u16) -> bool {
        self.ranges.iter().any(|(first, last)| (*first..=*last).contains(&port))
    }

    /// The ports of either.
    pub fn union(&self, other: &Self) -> Self {
        Self::of(self.ranges.iter().chain(&other.ranges).copied())
    }

    /// The ports of this one that are not in the other.
    pub fn minus(&self, other: &Self) -> Self {
        let mut left = Vec::new();
        let mut holes = other.ranges.iter().peekable();
        for (first, last) in self.ranges.iter().map(|(a, b)| (u32::from(*a), u32::from(*b))) {
            let mut from = first;
            while let Some((start, end)) = holes.peek().map(|(a, b)| (u32::from(*a), u32::from(*b)))
            {
                if start > last {
                    break;
                }
                if start > from {
                    left.push((from, start - 1));
                }
                from = from.max(end + 1);
                if end > last {
                    break;
                }
                holes.next();
            }
            if from <= last {
                left.push((from, last));
            }
        }
        Self::of(left.into_iter().filter_map(|(first, last)| {
            Some((u16::try_from(first).ok()?, u16::try_from(last).ok()?))
        }))
    }
}

impl fmt::Display for PortSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, (first, last)) in self.ranges.iter().enumerate() {
            let comma = if position == 0 { "" } else { "," };
            match first == last {
                true => write!(f, "{comma}{first}")?,
                false => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn linux_form_is_read_and_written() {
        for (text, normal) in [
            ("", ""),
            ("\n", ""),
            ("8080\n", "8080"),
            ("1,2,3,9148", "1-3,9148"),
            ("30000-32767,8080", "8080,30000-32767"),
            ("0-65535", "0-65535"),
        ] {
            assert_eq!(PortSet::parse(text).unwrap().to_string(), normal);
        }
        for text in ["x", "1-", "-1", "5-3", "65536", "1,,2"] {
            assert_eq!(PortSet::parse(text), None, "{text}");
        }
    }

    fn some_set() -> impl Strategy<Value = PortSet> {
        let range = (0..40_u16, 0..6_u16).prop_map(|(first, more)| (first, first + more));
        let high = (65_520..=65_535_u16, 0..6_u16)
            .prop_map(|(first, more)| (first, first.saturating_add(more)));
        prop::collection::vec(prop_oneof![range, high], 0..8).prop_map(PortSet::of)
    }

    fn elements(set: &PortSet) -> BTreeSet<u16> {
        set.ranges().iter().flat_map(|(first, last)| *first..=*last).collect()
    }

    proptest! {
        #[test]
        fn it_is_a_set(a in some_set(), b in some_set()) {
            let (left, right) = (elements(&a), elements(&b));
            prop_assert_eq!(elements(&a.union(&b)), left.union(&right).copied().collect());
            prop_assert_eq!(elements(&a.minus(&b)), left.difference(&right).copied().collect());
            prop_assert_eq!(PortSet::parse(&a.to_string()), Some(a.clone()));
            prop_assert!(left.iter().all(|port| a.contains(*port)));
            for pair in a.ranges().windows(2) {
                prop_assert!(u32::from(pair[0].1) + 1 < u32::from(pair[1].0), "not merged");
            }
        }
    }
}
