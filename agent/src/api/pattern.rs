//! What `name` and `id` filters ask for: regular expressions, as with Docker, bounded in what they may cost.

use regex_lite::{Regex, RegexBuilder};

use crate::state::Rejected;

/// Expressions of one filter. Docker has no such bound; words without special characters do not count.
const EXPRESSIONS: usize = 8;
/// Bytes of an expression as it is kept: some hundred steps, with what repetitions stand for.
const SIZE: usize = 16 << 10;
/// What makes an expression of a word.
const SPECIAL: &str = r"\.+*?()|[]{}^$";

/// The patterns of a filter. One that fits is enough, and so is none.
#[derive(Debug)]
pub(super) struct Patterns(Vec<Pattern>);

#[derive(Debug)]
enum Pattern {
    /// A word, anywhere.
    Part(String),
    /// An expression, or the same words without a meaning.
    Expression(String, Regex),
    /// What is no expression fits itself alone.
    Whole(String),
}

impl Patterns {
    /// Reads them; more expressions than are looked at are refused.
    pub(super) fn new<'a>(words: impl Iterator<Item = &'a str>) -> Result<Self, Rejected> {
        let patterns: Vec<_> = words.map(Pattern::new).collect();
        let expressions = patterns.iter().filter(|p| matches!(p, Pattern::Expression(..))).count();
        if expressions > EXPRESSIONS {
            return Err(Rejected::invalid(format!(
                "invalid filters: {expressions} regular expressions, at most {EXPRESSIONS} are allowed"
            )));
        }
        Ok(Self(patterns))
    }

    /// Tells whether one of them fits, or nothing is asked for.
    pub(super) fn fit(&self, value: &str) -> bool {
        self.0.is_empty() || self.0.iter().any(|pattern| pattern.fits(value))
    }
}

impl Pattern {
    fn new(word: &str) -> Self {
        if !word.contains(|c| SPECIAL.contains(c)) {
            return Self::Part(word.to_owned());
        }
        match RegexBuilder::new(word).size_limit(SIZE).build() {
            Ok(expression) => Self::Expression(word.to_owned(), expression),
            Err(_) => Self::Whole(word.to_owned()),
        }
    }

    fn fits(&self, value: &str) -> bool {
        match self {
            Self::Part(word) => value.contains(word.as_str()),
            Self::Expression(word, expression) => value == word || expression.is_match(value),
            Self::Whole(word) => value == word,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(word: &str, value: &str) -> bool {
        Patterns::new([word].into_iter()).expect("few").fit(value)
    }

    #[test]
    fn p2_names_are_found_by_expressions() {
        for (wanted, does) in [
            ("web", true),
            ("eb", true),
            ("^web", true),
            ("^eb", false),
            ("1$", true),
            ("^web-1$", true),
            ("^web$", false),
            ("^web-[0-9]+$", true),
            ("^web-[2-9]+$", false),
            ("db|w.b", true),
            ("(?i)WEB", true),
            // No expression, and not its name.
            ("web-1(", false),
        ] {
            assert_eq!(fits(wanted, "web-1"), does, "{wanted}");
        }
        assert!(fits("a(b", "a(b") && fits("a.b+", "a.b+"), "names that look like expressions");
        assert!(Patterns::new(std::iter::empty()).expect("none").fit("any"));
    }

    #[test]
    fn expressions_cost_no_more_than_they_may() {
        let many: Vec<_> = (0..=EXPRESSIONS).map(|n| format!("^n{n}")).collect();
        assert!(Patterns::new(many.iter().map(String::as_str)).is_err());
        let words: Vec<_> = (0..1_000).map(|n| format!("n{n}")).collect();
        assert!(Patterns::new(words.iter().map(String::as_str)).is_ok());
        let value = "a".repeat(4_096);
        for hostile in ["(a*)*b", "((a{99}){99}){99}", "(a|aa)+$x", &"(".repeat(4_096)] {
            let begin = std::time::Instant::now();
            assert!(!fits(hostile, &value));
            assert!(begin.elapsed() < std::time::Duration::from_secs(5), "{hostile}");
        }
    }
}
