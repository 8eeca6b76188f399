//! Ids: 32 random bytes, written as 64 hex digits, shown as twelve.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Text that is not an id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an id of 64 hex digits")]
pub struct ParseIdError(String);

fn parse(text: &str) -> Result<[u8; 32], ParseIdError> {
    let error = || ParseIdError(text.to_owned());
    let digits = text.as_bytes();
    if digits.len() != 64 {
        return Err(error());
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |at: usize| pair.get(at).and_then(|&d| char::from(d).to_digit(16));
        let (Some(high), Some(low)) = (digit(0), digit(1)) else { return Err(error()) };
        *byte = u8::try_from(high << 4 | low).map_err(|_| error())?;
    }
    Ok(bytes)
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 32]);

        impl $name {
            /// Makes the id with these bytes.
            pub const fn new(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// Returns the bytes.
            pub const fn bytes(&self) -> [u8; 32] {
                self.0
            }

            /// Returns the first `digits` hex digits.
            pub fn prefix(&self, digits: usize) -> String {
                let mut text = self.to_string();
                text.truncate(digits);
                text
            }

            /// Returns the first twelve hex digits.
            pub fn short(&self) -> String {
                self.prefix(12)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.short())
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;
            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                parse(text).map(Self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

id!(
    /// Id of a network.
    NetworkId
);
id!(
    /// Id of a container.
    ContainerId
);
id!(
    /// Id of an endpoint: one running container's place on one network.
    EndpointId
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s1_an_id_is_64_hex_digits_and_reads_back() {
        let id = NetworkId::new([0xa5; 32]);
        assert_eq!(id.to_string(), "a5".repeat(32));
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.short(), "a5a5a5a5a5a5");
        assert!("a5".parse::<NetworkId>().is_err());
        assert!("g".repeat(64).parse::<NetworkId>().is_err());
    }
}
