//! Links: what one container may open on another where ICC is off.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{Name, ParseNameError};

/// A link to a container, by its name, which may come to exist only later.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Link {
    /// The container that serves.
    pub container: Name,
    /// What the linking container calls it.
    pub alias: Name,
}

/// Text that is not a link.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseLinkError {
    /// A part is not a name.
    #[error("invalid link {link:?}: the {part}: {source}")]
    Part {
        /// The whole text.
        link: String,
        /// Which part.
        part: &'static str,
        /// Why.
        source: ParseNameError,
    },
    /// It has more than two parts.
    #[error("invalid link {0:?}: CONTAINER[:ALIAS] is needed")]
    Parts(String),
}

impl FromStr for Link {
    type Err = ParseLinkError;
    fn from_str(text: &str) -> Result<Self, ParseLinkError> {
        let name = |part: &'static str, name: &str| {
            name.parse().map_err(|source| ParseLinkError::Part {
                link: text.to_owned(),
                part,
                source,
            })
        };
        // Docker writes the names it has resolved with a slash before them.
        let (container, alias) = text.split_once(':').unwrap_or((text, ""));
        let container = container.trim_start_matches('/');
        let alias = alias.rsplit('/').next().unwrap_or(alias);
        if alias.contains(':') {
            return Err(ParseLinkError::Parts(text.to_owned()));
        }
        let container: Name = name("container", container)?;
        let alias = if text.contains(':') { name("alias", alias)? } else { container.clone() };
        Ok(Self { container, alias })
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.container, self.alias)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s98_a_link_names_a_container() {
        let text =
            |link: &str| link.parse::<Link>().map(|l| l.to_string()).map_err(|e| e.to_string());
        assert_eq!(text("db"), Ok("db:db".into()));
        assert_eq!(text("db:sql"), Ok("db:sql".into()));
        assert_eq!(text("/db:/web/sql"), Ok("db:sql".into()));
        assert!(text("").is_err());
        assert!(text("db:").unwrap_err().contains("the alias"));
        assert!(text("a:b:c").unwrap_err().contains("CONTAINER[:ALIAS]"));
    }
}
