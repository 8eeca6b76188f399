//! Which request is meant: method and path, in one table.

use super::paths;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Route {
    Ping,
    Version,
    Info,
    Events,
    Networks,
    NetworkCreate,
    NetworkPrune,
    Network,
    NetworkRemove,
    NetworkConnect,
    NetworkDisconnect,
    NetworkUpdate,
    Containers,
    Container,
    ContainerCreate,
    ContainerRemove,
    ContainerStart,
    ContainerStop,
    ContainerProcess,
    ContainerPorts,
    Denials,
    Deny,
    Undeny,
    Policy,
    Connections,
    Maps,
    Map,
    Bugreport,
    Monitor,
    Traffic,
    Why,
    Name,
    Docker,
    DockerAdopt,
    DockerRelease,
    Status,
    OpenApi,
}

/// A row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    /// What is asked for.
    pub(super) route: Route,
    /// Method.
    pub(super) method: &'static str,
    /// Path; `{id}` stands for one segment.
    pub(super) path: &'static str,
}

const fn row(route: Route, method: &'static str, path: &'static str) -> Row {
    Row { route, method, path }
}

/// Everything that is served. A path that is spelled out comes before one with `{id}` in its place.
pub(super) const TABLE: &[Row] = &[
    row(Route::Ping, "GET", paths::PING),
    row(Route::Ping, "HEAD", paths::PING),
    row(Route::Version, "GET", paths::VERSION),
    row(Route::Info, "GET", paths::INFO),
    row(Route::Events, "GET", paths::EVENTS),
    row(Route::Networks, "GET", paths::NETWORKS),
    row(Route::NetworkCreate, "POST", paths::NETWORKS_CREATE),
    row(Route::NetworkPrune, "POST", paths::NETWORKS_PRUNE),
    row(Route::Network, "GET", "/networks/{id}"),
    row(Route::NetworkRemove, "DELETE", "/networks/{id}"),
    row(Route::NetworkConnect, "POST", "/networks/{id}/connect"),
    row(Route::NetworkDisconnect, "POST", "/networks/{id}/disconnect"),
    row(Route::NetworkUpdate, "POST", "/bascule/v1/networks/{id}/update"),
    row(Route::Containers, "GET", paths::CONTAINERS),
    row(Route::Container, "GET", "/containers/{id}/json"),
    row(Route::ContainerCreate, "POST", paths::BASCULE_CONTAINERS),
    row(Route::ContainerRemove, "DELETE", "/bascule/v1/containers/{id}"),
    row(Route::ContainerStart, "POST", "/bascule/v1/containers/{id}/start"),
    row(Route::ContainerStop, "POST", "/bascule/v1/containers/{id}/stop"),
    row(Route::ContainerProcess, "POST", "/bascule/v1/containers/{id}/process"),
    row(Route::ContainerPorts, "GET", "/bascule/v1/containers/{id}/ports"),
    row(Route::Denials, "GET", paths::POLICY_DENY),
    row(Route::Deny, "POST", paths::POLICY_DENY),
    row(Route::Undeny, "DELETE", paths::POLICY_DENY),
    row(Route::Policy, "GET", paths::POLICY),
    row(Route::Connections, "GET", paths::CONNECTIONS),
    row(Route::Maps, "GET", paths::MAPS),
    row(Route::Map, "GET", "/bascule/v1/maps/{id}"),
    row(Route::Bugreport, "GET", paths::BUGREPORT),
    row(Route::Monitor, "GET", paths::MONITOR),
    row(Route::Traffic, "GET", paths::TRAFFIC),
    row(Route::Why, "POST", paths::WHY),
    row(Route::Name, "GET", "/bascule/v1/names/{id}"),
    row(Route::Docker, "GET", paths::DOCKER),
    row(Route::DockerAdopt, "POST", paths::DOCKER_ADOPT),
    row(Route::DockerRelease, "POST", paths::DOCKER_RELEASE),
    row(Route::Status, "GET", paths::STATUS),
    row(Route::OpenApi, "GET", paths::OPENAPI),
];

/// A request that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Its row.
    pub(super) row: &'static Row,
    /// What `{id}` stands for; empty where there is none.
    pub(super) id: String,
    /// API version that the client speaks.
    pub(super) version: ApiVersion,
}

/// A version of Docker's API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ApiVersion(pub(super) u32, pub(super) u32);

/// Why a path leads nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Lost {
    /// Nothing is there.
    Page,
    /// Docker's engine has something there, and Bascule has not.
    Engine,
    /// Its version is not spoken here.
    Version(String),
}

/// Finds what a request means.
pub(super) fn find(method: &str, path: &str) -> Result<Found, Lost> {
    let (version, path) = unversioned(path)?;
    let segments: Option<Vec<String>> =
        path.split('/').filter(|s| !s.is_empty()).map(unescape).collect();
    let segments = segments.ok_or(Lost::Page)?;
    let fits = |row: &&Row| row.method == method && leads_to(row.path, &segments);
    let Some(row) = TABLE.iter().find(fits) else {
        return Err(if is_engines(method, &segments) { Lost::Engine } else { Lost::Page });
    };
    let at = row.path.split('/').skip(1).position(|part| part == "{id}");
    let id = at.and_then(|at| segments.get(at)).cloned().unwrap_or_default();
    Ok(Found { row, id, version })
}

fn leads_to(pattern: &str, segments: &[String]) -> bool {
    let parts = pattern.split('/').skip(1);
    parts.clone().count() == segments.len()
        && parts.zip(segments).all(|(part, segment)| part == "{id}" || part == segment)
}

/// Tells whether Docker's engine does something there. What is only looked for is not found, as ever:
/// `docker inspect` looks in one place after the other.
fn is_engines(method: &str, segments: &[String]) -> bool {
    const PLACES: [&str; 11] = [
        "auth",
        "build",
        "commit",
        "containers",
        "exec",
        "images",
        "plugins",
        "session",
        "swarm",
        "system",
        "volumes",
    ];
    method != "GET" && segments.first().is_some_and(|first| PLACES.contains(&first.as_str()))
}

/// Takes a version off the front of a path, if it is one that is spoken here.
fn unversioned(path: &str) -> Result<(ApiVersion, &str), Lost> {
    let range = (number(paths::MIN_API_VERSION), number(paths::API_VERSION));
    let Some((version, rest)) = path.strip_prefix("/v").and_then(|p| p.split_once('/')) else {
        return Ok((range.1, path));
    };
    if !version.starts_with(|c: char| c.is_ascii_digit())
        || !version.bytes().all(|b| b.is_ascii_digit() || b == b'.')
    {
        return Ok((range.1, path));
    }
    let start = path.len() - rest.len() - 1;
    match number(version) {
        asked if asked < range.0 => Err(Lost::Version(format!(
            "client version {version} is too old. Minimum supported API version is {}, please upgrade your client to a newer version",
            paths::MIN_API_VERSION
        ))),
        asked if asked > range.1 => Err(Lost::Version(format!(
            "client version {version} is too new. Maximum supported API version is {}",
            paths::API_VERSION
        ))),
        asked => Ok((asked, path.get(start..).unwrap_or(path))),
    }
}

/// Reads a version; parts beyond the second count for nothing.
fn number(version: &str) -> ApiVersion {
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(u32::MAX));
    ApiVersion(parts.next().unwrap_or(0), parts.next().unwrap_or(0))
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
    use std::collections::BTreeSet;

    use super::*;

    fn found(method: &str, path: &str) -> Result<(Route, String), Lost> {
        find(method, path).map(|found| (found.row.route, found.id))
    }

    #[test]
    fn requests_are_known_with_and_without_a_version() {
        for prefix in ["", "/v1.24", "/v1.43", "/v1.51"] {
            let found = |method, path: &str| found(method, &format!("{prefix}{path}"));
            let whole = |route| Ok((route, String::new()));
            assert_eq!(found("GET", "/networks"), whole(Route::Networks));
            assert_eq!(found("GET", "/networks/"), whole(Route::Networks));
            assert_eq!(found("GET", "/networks/n1"), Ok((Route::Network, "n1".into())));
            assert_eq!(found("POST", "/networks/create"), whole(Route::NetworkCreate));
            assert_eq!(
                found("POST", "/networks/a%2Fb/connect"),
                Ok((Route::NetworkConnect, "a/b".into()))
            );
            assert_eq!(
                found("DELETE", &paths::container("c1")),
                Ok((Route::ContainerRemove, "c1".into()))
            );
            assert_eq!(found("DELETE", paths::POLICY_DENY), whole(Route::Undeny));
            assert_eq!(found("HEAD", "/_ping"), whole(Route::Ping));
            assert_eq!(found("GET", "/images/x/json"), Err(Lost::Page));
            assert_eq!(found("POST", "/containers/create"), Err(Lost::Engine));
            assert_eq!(found("PUT", "/networks"), Err(Lost::Page));
        }
    }

    #[test]
    fn every_row_is_found_by_its_own_path_alone() {
        let mut seen = BTreeSet::new();
        for row in TABLE {
            let path = row.path.replace("{id}", "x1");
            let found = find(row.method, &path).expect(row.path);
            assert_eq!(found.row, row, "{} {path}", row.method);
            assert!(
                seen.insert((row.method, row.path)),
                "{} {} is there twice",
                row.method,
                row.path
            );
        }
    }

    /// Methods and path of a row of the table in `docs/api.md`, as "`GET`, `HEAD /_ping`".
    fn documented(line: &str) -> Vec<(&str, &str)> {
        let cell = line.strip_prefix("| `").and_then(|rest| rest.split(" | ").next());
        let words: Vec<_> = cell.unwrap_or_default().split(['`', ' ', ',']).collect();
        let path = words.iter().find(|word| word.starts_with('/'));
        let is_method = |word: &&&str| TABLE.iter().any(|row| row.method == **word);
        path.map_or(vec![], |path| {
            words.iter().filter(is_method).map(|method| (*method, *path)).collect()
        })
    }

    #[test]
    fn the_documents_table_is_what_is_served_of_dockers() {
        let document = include_str!("../../../docs/api.md");
        let written: BTreeSet<_> = document.lines().flat_map(documented).collect();
        let dockers = TABLE.iter().filter(|row| !row.path.starts_with("/bascule"));
        let served: BTreeSet<_> = dockers.map(|row| (row.method, row.path)).collect();
        assert_eq!(written, served);
    }

    #[test]
    fn the_version_of_the_path_is_told() {
        let version = |path| find("GET", path).expect("known").version;
        assert_eq!(version("/v1.24/networks"), ApiVersion(1, 24));
        assert_eq!(version("/networks"), ApiVersion(1, 51));
        assert!(ApiVersion(1, 9) < ApiVersion(1, 24));
    }

    #[test]
    fn versions_that_are_not_spoken_are_refused_in_dockers_words() {
        for (version, words) in [
            (
                "1.20",
                "client version 1.20 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version",
            ),
            ("1.99", "client version 1.99 is too new. Maximum supported API version is 1.51"),
            ("1", "too old"),
            ("99999999999999999999.1", "too new"),
        ] {
            assert!(
                matches!(find("GET", &format!("/v{version}/networks")), Err(Lost::Version(why)) if why.contains(words)),
                "{version}"
            );
        }
        assert_eq!(found("GET", "/volumes/x"), Err(Lost::Page));
    }
}
