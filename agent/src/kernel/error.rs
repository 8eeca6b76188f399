//! What can go wrong between Bascule and Linux, as one sentence for the operator.
//! Deciding what to do about it is not done here.

use std::io;

use nix::errno::Errno;

/// A result of this room.
pub type Result<T> = std::result::Result<T, Error>;

/// Whether an operation changed anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The kernel's state was changed.
    Done,
    /// It was so already.
    Already,
}

/// An operation of Linux that failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused.
    #[error("cannot {action} {object}: {}{}", describe(*errno), reason(action, *errno, detail))]
    Refused {
        /// What was being done: a verb, perhaps with a noun.
        action: &'static str,
        /// To what.
        object: String,
        /// The kernel's answer.
        errno: Errno,
        /// The kernel's own words, where it has any.
        detail: Option<String>,
    },
    /// Something of that name exists and belongs to someone else.
    #[error("cannot {action} {object}: it exists and was not made by this agent")]
    Foreign {
        /// What was being done.
        action: &'static str,
        /// To what.
        object: String,
    },
    /// Something that has to be there is not.
    #[error("cannot {action} {object}: {what}")]
    Unexpected {
        /// What was being done.
        action: &'static str,
        /// To what.
        object: String,
        /// What was found instead.
        what: String,
    },
}

impl Error {
    /// Wraps an errno.
    pub fn refused(action: &'static str, object: impl Into<String>, errno: Errno) -> Self {
        Self::Refused { action, object: object.into(), errno, detail: None }
    }

    /// Wraps an error of the standard library.
    pub fn io(action: &'static str, object: impl Into<String>, error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(errno) => Self::refused(action, object, Errno::from_raw(errno)),
            None => Self::unexpected(action, object, error.to_string()),
        }
    }

    /// Tells of a surprise that is no errno.
    pub fn unexpected(
        action: &'static str,
        object: impl Into<String>,
        what: impl Into<String>,
    ) -> Self {
        Self::Unexpected { action, object: object.into(), what: what.into() }
    }

    /// The kernel's answer, where there was one.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Refused { errno, .. } => Some(*errno),
            Self::Foreign { .. } | Self::Unexpected { .. } => None,
        }
    }

    /// Whether the object was not there.
    pub fn is_absent(&self) -> bool {
        matches!(
            self.errno(),
            Some(
                Errno::ENODEV | Errno::ENOENT | Errno::ENXIO | Errno::ESRCH | Errno::EADDRNOTAVAIL
            )
        )
    }
}

/// Adapts `Errno` results: `.or_refuse("create", name)?`.
pub(crate) trait OrRefuse<T> {
    /// Says what was being done, and to what.
    fn or_refuse(self, action: &'static str, object: impl Into<String>) -> Result<T>;
}

impl<T> OrRefuse<T> for nix::Result<T> {
    fn or_refuse(self, action: &'static str, object: impl Into<String>) -> Result<T> {
        self.map_err(|errno| Error::refused(action, object, errno))
    }
}

impl<T> OrRefuse<T> for io::Result<T> {
    fn or_refuse(self, action: &'static str, object: impl Into<String>) -> Result<T> {
        self.map_err(|error| Error::io(action, object, &error))
    }
}

fn describe(errno: Errno) -> String {
    errno.desc().to_lowercase()
}

fn reason(action: &str, errno: Errno, detail: &Option<String>) -> String {
    let hint = match errno {
        Errno::EPERM if action.contains("namespace") => Some("needs CAP_SYS_ADMIN"),
        Errno::EPERM => Some("needs CAP_NET_ADMIN"),
        Errno::EACCES => Some("needs root"),
        Errno::ENOBUFS | Errno::ENOMEM => Some("the kernel is out of memory for this"),
        Errno::EOPNOTSUPP => Some("this kernel cannot do it"),
        _ => None,
    };
    match (detail.as_deref(), hint) {
        (Some(words), Some(hint)) => format!(" ({words}; {hint})"),
        (Some(text), None) | (None, Some(text)) => format!(" ({text})"),
        (None, None) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_the_action_the_object_the_reason_and_the_remedy() {
        let error = Error::refused("create", "veth bsc1234abcd", Errno::EPERM);
        assert_eq!(
            error.to_string(),
            "cannot create veth bsc1234abcd: operation not permitted (needs CAP_NET_ADMIN)"
        );
        let error = Error::refused("create network namespace", "/run/x", Errno::EPERM).to_string();
        assert!(error.ends_with("operation not permitted (needs CAP_SYS_ADMIN)"), "{error}");
        let error = Error::Foreign { action: "create", object: "bridge br-0123456789ab".into() };
        assert_eq!(
            error.to_string(),
            "cannot create bridge br-0123456789ab: it exists and was not made by this agent"
        );
    }
}
