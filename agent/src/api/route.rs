//! Which request is meant: method and path, in one table.

use super::paths;

/// A request that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    Ping,
    Version,
    Networks,
    NetworkCreate,
    NetworkPrune,
    Network(String),
    NetworkRemove(String),
    NetworkConnect(String),
    NetworkDisconnect(String),
    Containers,
    Container(String),
    ContainerCreate,
    ContainerRemove(String),
    ContainerStart(String),
    ContainerStop(String),
    ContainerProcess(String),
    ContainerPorts(String),
    Denials,
    Deny,
    Undeny,
    Why,
    Status,
}

impl Route {
    /// Returns the pattern that metrics know the request by.
    pub(super) const fn pattern(&self) -> &'static str {
        match self {
            Self::Ping => paths::PING,
            Self::Version => paths::VERSION,
            Self::Networks => paths::NETWORKS,
            Self::NetworkCreate => paths::NETWORKS_CREATE,
            Self::NetworkPrune => paths::NETWORKS_PRUNE,
            Self::Network(_) => "/networks/{id}",
            Self::NetworkRemove(_) => "DELETE /networks/{id}",
            Self::NetworkConnect(_) => "/networks/{id}/connect",
            Self::NetworkDisconnect(_) => "/networks/{id}/disconnect",
            Self::Containers => paths::CONTAINERS,
            Self::Container(_) => "/containers/{id}/json",
            Self::ContainerCreate => paths::BASCULE_CONTAINERS,
            Self::ContainerRemove(_) => "DELETE /bascule/v1/containers/{id}",
            Self::ContainerStart(_) => "/bascule/v1/containers/{id}/start",
            Self::ContainerStop(_) => "/bascule/v1/containers/{id}/stop",
            Self::ContainerProcess(_) => "/bascule/v1/containers/{id}/process",
            Self::ContainerPorts(_) => "/bascule/v1/containers/{id}/ports",
            Self::Denials => paths::POLICY_DENY,
            Self::Deny => "POST /bascule/v1/policy/deny",
            Self::Undeny => "DELETE /bascule/v1/policy/deny",
            Self::Why => paths::WHY,
            Self::Status => paths::STATUS,
        }
    }
}

/// Why a path leads nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Lost {
    /// Nothing is there.
    Page,
    /// Its version is not spoken here.
    Version(String),
}

/// Finds what a request means.
pub(super) fn find(method: &str, path: &str) -> Result<Route, Lost> {
    let path = unversioned(path)?;
    let segments: Option<Vec<String>> =
        path.split('/').filter(|s| !s.is_empty()).map(unescape).collect();
    let segments = segments.ok_or(Lost::Page)?;
    let words: Vec<&str> = segments.iter().map(String::as_str).collect();
    let id = |at: usize| segments.get(at).cloned().unwrap_or_default();
    Ok(match (method, words.as_slice()) {
        ("GET" | "HEAD", ["_ping"]) => Route::Ping,
        ("GET", ["version"]) => Route::Version,
        ("GET", ["networks"]) => Route::Networks,
        ("POST", ["networks", "create"]) => Route::NetworkCreate,
        ("POST", ["networks", "prune"]) => Route::NetworkPrune,
        ("GET", ["networks", _]) => Route::Network(id(1)),
        ("DELETE", ["networks", _]) => Route::NetworkRemove(id(1)),
        ("POST", ["networks", _, "connect"]) => Route::NetworkConnect(id(1)),
        ("POST", ["networks", _, "disconnect"]) => Route::NetworkDisconnect(id(1)),
        ("GET", ["containers", "json"]) => Route::Containers,
        ("GET", ["containers", _, "json"]) => Route::Container(id(1)),
        (_, ["bascule", "v1", ..]) => own(method, &words, &id)?,
        _ => return Err(Lost::Page),
    })
}

fn own(method: &str, words: &[&str], id: &impl Fn(usize) -> String) -> Result<Route, Lost> {
    Ok(match (method, words.get(2..).unwrap_or_default()) {
        ("POST", ["containers"]) => Route::ContainerCreate,
        ("DELETE", ["containers", _]) => Route::ContainerRemove(id(3)),
        ("POST", ["containers", _, "start"]) => Route::ContainerStart(id(3)),
        ("POST", ["containers", _, "stop"]) => Route::ContainerStop(id(3)),
        ("POST", ["containers", _, "process"]) => Route::ContainerProcess(id(3)),
        ("GET", ["containers", _, "ports"]) => Route::ContainerPorts(id(3)),
        ("GET", ["policy", "deny"]) => Route::Denials,
        ("POST", ["policy", "deny"]) => Route::Deny,
        ("DELETE", ["policy", "deny"]) => Route::Undeny,
        ("POST", ["why"]) => Route::Why,
        ("GET", ["status"]) => Route::Status,
        _ => return Err(Lost::Page),
    })
}

/// Takes a version off the front of a path, if it is one that is spoken here.
fn unversioned(path: &str) -> Result<&str, Lost> {
    let Some((version, rest)) = path.strip_prefix("/v").and_then(|p| p.split_once('/')) else {
        return Ok(path);
    };
    if !version.starts_with(|c: char| c.is_ascii_digit())
        || !version.bytes().all(|b| b.is_ascii_digit() || b == b'.')
    {
        return Ok(path);
    }
    let start = path.len() - rest.len() - 1;
    let range = (number(paths::MIN_API_VERSION), number(paths::API_VERSION));
    match number(version) {
        asked if asked < range.0 => Err(Lost::Version(format!(
            "client version {version} is too old. Minimum supported API version is {}, please upgrade your client to a newer version",
            paths::MIN_API_VERSION
        ))),
        asked if asked > range.1 => Err(Lost::Version(format!(
            "client version {version} is too new. Maximum supported API version is {}",
            paths::API_VERSION
        ))),
        _ => Ok(path.get(start..).unwrap_or(path)),
    }
}

fn number(version: &str) -> Vec<u32> {
    version.split('.').map(|part| part.parse().unwrap_or(u32::MAX)).collect()
}

/// Reads `%41` as `A`.
pub(super) fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                let digits = std::str::from_utf8(&digits).ok()?;
                bytes.push(u8::from_str_radix(digits, 16).ok()?);
            }
            byte => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_known_with_and_without_a_version() {
        for prefix in ["", "/v1.24", "/v1.43", "/v1.51"] {
            let find = |method, path: &str| super::find(method, &format!("{prefix}{path}"));
            assert_eq!(find("GET", "/networks"), Ok(Route::Networks));
            assert_eq!(find("GET", "/networks/n1"), Ok(Route::Network("n1".into())));
            assert_eq!(find("POST", "/networks/create"), Ok(Route::NetworkCreate));
            assert_eq!(
                find("POST", "/networks/a%2Fb/connect"),
                Ok(Route::NetworkConnect("a/b".into()))
            );
            assert_eq!(
                find("DELETE", &paths::container("c1")),
                Ok(Route::ContainerRemove("c1".into()))
            );
            assert_eq!(find("DELETE", paths::POLICY_DENY), Ok(Route::Undeny));
            assert_eq!(find("HEAD", "/_ping"), Ok(Route::Ping));
            assert_eq!(find("GET", "/images/json"), Err(Lost::Page));
            assert_eq!(find("PUT", "/networks"), Err(Lost::Page));
        }
    }

    #[test]
    fn versions_that_are_not_spoken_are_refused_in_dockers_words() {
        assert!(
            matches!(find("GET", "/v1.20/networks"), Err(Lost::Version(why)) if why.contains("1.20 is too old"))
        );
        assert!(
            matches!(find("GET", "/v1.99/networks"), Err(Lost::Version(why)) if why.contains("1.99 is too new"))
        );
        assert_eq!(find("GET", "/volumes/x"), Err(Lost::Page));
    }
}
