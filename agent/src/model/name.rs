//! Names of networks and containers.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A container's name: a letter or digit, then letters, digits, `_`, `.` and `-`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

/// A network's name: whatever is not blank, as Docker has it, and stays on its line.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NetworkName(String);

/// Text that is not a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseNameError {
    /// It is empty or white space.
    #[error("invalid name: name is empty")]
    Empty,
    /// It has more than 255 bytes.
    #[error("invalid name: {0} bytes are too many, at most 255 are allowed")]
    Long(usize),
    /// It has characters that no name of a container has.
    #[error("invalid name ({0}), only [a-zA-Z0-9][a-zA-Z0-9_.-]* are allowed")]
    Characters(String),
    /// It has characters that no name has.
    #[error("invalid name ({0:?}): it has control characters")]
    Control(String),
}

/// Refuses what is no name of anything.
fn check(text: &str) -> Result<(), ParseNameError> {
    if text.trim().is_empty() {
        return Err(ParseNameError::Empty);
    }
    if text.len() > 255 {
        return Err(ParseNameError::Long(text.len()));
    }
    Ok(())
}

impl FromStr for Name {
    type Err = ParseNameError;
    fn from_str(text: &str) -> Result<Self, ParseNameError> {
        check(text)?;
        let mut bytes = text.bytes();
        let fits = bytes.next().is_some_and(|first| first.is_ascii_alphanumeric())
            && bytes.all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
        let name = || Self(text.to_owned());
        fits.then(name).ok_or_else(|| ParseNameError::Characters(text.to_owned()))
    }
}

impl FromStr for NetworkName {
    type Err = ParseNameError;
    fn from_str(text: &str) -> Result<Self, ParseNameError> {
        check(text)?;
        let name = || Self(text.to_owned());
        let fits = !text.contains(char::is_control);
        fits.then(name).ok_or_else(|| ParseNameError::Control(text.to_owned()))
    }
}

/// What both kinds of names can do.
macro_rules! text {
    ($name:ty) => {
        impl $name {
            /// Returns the text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = ParseNameError;
            fn try_from(text: String) -> Result<Self, ParseNameError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text!(Name);
text!(NetworkName);

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

    #[test]
    fn moby_api_021_names_of_networks_are_as_lax_as_dockers() {
        for good in ["a", "test@#$", "-a", ".a", "my net", "a/b", "\u{e4}", "a:b", "50%"] {
            assert!(good.parse::<NetworkName>().is_ok(), "{good}");
        }
        for bad in ["", " ", "\t", "a\nb", "a\0", &"a".repeat(256)] {
            assert!(bad.parse::<NetworkName>().is_err(), "{bad:?}");
        }
    }
}
