//! Names of networks and containers.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A name: a letter or digit, then letters, digits, `_`, `.` and `-`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

/// Text that is not a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseNameError {
    /// It is empty or white space.
    #[error("invalid name: name is empty")]
    Empty,
    /// It has more than 255 bytes.
    #[error("invalid name: {0} bytes are too many, at most 255 are allowed")]
    Long(usize),
    /// It has characters that no name has.
    #[error("invalid name ({0}), only [a-zA-Z0-9][a-zA-Z0-9_.-]* are allowed")]
    Characters(String),
}

impl Name {
    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = ParseNameError;
    fn from_str(text: &str) -> Result<Self, ParseNameError> {
        let mut bytes = text.bytes();
        let Some(first) = bytes.next().filter(|_| !text.trim().is_empty()) else {
            return Err(ParseNameError::Empty);
        };
        if text.len() > 255 {
            return Err(ParseNameError::Long(text.len()));
        }
        let fits = first.is_ascii_alphanumeric()
            && bytes.all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
        if fits {
            Ok(Self(text.to_owned()))
        } else {
            Err(ParseNameError::Characters(text.to_owned()))
        }
    }
}

impl TryFrom<String> for Name {
    type Error = ParseNameError;
    fn try_from(text: String) -> Result<Self, ParseNameError> {
        text.parse()
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s21_names_follow_dockers_pattern() {
        for good in ["a", "0", "web-1", "A.b_c"] {
            assert!(good.parse::<Name>().is_ok(), "{good}");
        }
        for bad in ["", " ", "-a", ".a", "a b", "a/b", "ä", "a\n"] {
            assert!(bad.parse::<Name>().is_err(), "{bad:?}");
        }
        assert!("a".repeat(256).parse::<Name>().is_err());
    }
}
