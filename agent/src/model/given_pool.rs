//! Pools of addresses that Docker was given by our IPAM driver.

use std::{collections::BTreeSet, fmt, net::IpAddr, str::FromStr};

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use super::ipam;

/// Where the pools of one host are.
pub const LOCAL: &str = "bascule-local";
/// Where those of a swarm would be.
pub const GLOBAL: &str = "bascule-global";

/// Id of a pool: address space, subnet and, where one was asked for, the part that addresses are chosen from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PoolId {
    /// The address space.
    pub space: String,
    /// The subnet.
    pub subnet: IpNetwork,
    /// The part of it that addresses are chosen from.
    pub range: Option<IpNetwork>,
}

/// Text that is not the id of a pool.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not the id of a pool")]
pub struct ParsePoolIdError(String);

/// A pool that Docker was given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GivenPool {
    /// Its id.
    pub id: PoolId,
    /// How often it was asked for, less how often it was given back.
    pub holders: u32,
    /// The gateway, which may be asked for again.
    pub gateway: Option<IpAddr>,
    /// Addresses that were given out, the gateway among them.
    pub given: BTreeSet<IpAddr>,
    /// Address that was given out last.
    pub last_given: Option<IpAddr>,
}

impl GivenPool {
    /// Makes one that was asked for once.
    pub const fn new(id: PoolId) -> Self {
        Self { id, holders: 1, gateway: None, given: BTreeSet::new(), last_given: None }
    }

    /// Returns where addresses are chosen from.
    pub fn range(&self) -> IpNetwork {
        self.id.range.unwrap_or(self.id.subnet)
    }

    /// Chooses a free address.
    pub fn next(&self) -> Option<IpAddr> {
        ipam::next_address(self.range(), self.id.subnet, self.last_given, &self.given)
    }
}

impl fmt::Display for PoolId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.space, self.subnet)?;
        self.range.map_or(Ok(()), |range| write!(f, "/{range}"))
    }
}

impl FromStr for PoolId {
    type Err = ParsePoolIdError;
    fn from_str(text: &str) -> Result<Self, ParsePoolIdError> {
        let read = || {
            let mut parts = text.splitn(5, '/');
            let space = parts.next().filter(|space| !space.is_empty())?.to_owned();
            let mut network = || -> Option<Option<IpNetwork>> {
                let Some(address) = parts.next() else { return Some(None) };
                format!("{address}/{}", parts.next()?).parse().ok().map(Some)
            };
            Some(Self { space, subnet: network()??, range: network()? })
        };
        read().ok_or_else(|| ParsePoolIdError(text.to_owned()))
    }
}

impl TryFrom<String> for PoolId {
    type Error = ParsePoolIdError;
    fn try_from(text: String) -> Result<Self, ParsePoolIdError> {
        text.parse()
    }
}

impl From<PoolId> for String {
    fn from(id: PoolId) -> Self {
        id.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_a_pool_reads_back() {
        for text in [
            "bascule-local/10.1.0.0/16",
            "bascule-local/10.1.0.0/16/10.1.2.0/24",
            "bascule-local/fd00:1::/64",
        ] {
            assert_eq!(text.parse::<PoolId>().map(|id| id.to_string()), Ok(text.to_owned()));
        }
        for bad in
            ["", "x", "x/", "x/10.0.0.0", "/10.0.0.0/8", "x/10.0.0.0/8/", "x/10.0.0.0/8/9", "x/a/8"]
        {
            assert!(bad.parse::<PoolId>().is_err(), "{bad}");
        }
    }
}
