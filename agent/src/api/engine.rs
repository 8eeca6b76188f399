//! The engine itself: `/version` and `/info`.

use super::{context::Context, paths, proto, request::Request, route::ApiVersion, view};

/// The version from which on the firewall's back end is told.
const FIREWALL_BACKEND: ApiVersion = ApiVersion(1, 49);

/// Shows what versions there are.
pub(super) fn version(context: &Context) -> proto::Version {
    let details =
        view::map([("ApiVersion", paths::API_VERSION.to_owned()), ("Os", "linux".to_owned())]);
    proto::Version {
        platform: proto::Platform { name: "bascule network engine".to_owned() },
        version: paths::ENGINE_VERSION.to_owned(),
        api_version: paths::API_VERSION.to_owned(),
        min_api_version: paths::MIN_API_VERSION.to_owned(),
        os: "linux".to_owned(),
        arch: arch().to_owned(),
        components: vec![proto::Component {
            name: "Engine".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            details,
        }],
        kernel_version: context.facts.kernel.clone(),
        ..proto::Version::default()
    }
}

/// Returns the architecture in Go's words.
const fn arch() -> &'static str {
    match std::env::consts::ARCH.as_bytes() {
        b"x86_64" => "amd64",
        b"aarch64" => "arm64",
        _ => std::env::consts::ARCH,
    }
}

/// Shows what the engine and its host are.
pub(super) fn info(context: &Context, request: &Request) -> proto::Info {
    let snapshot = context.handle.shared.get();
    let containers = &snapshot.desired.containers;
    let running = containers.values().filter(|c| c.running().is_some()).count();
    let mut warnings = context.facts.warnings.clone();
    warnings.extend(snapshot.forwarding.iter().cloned());
    let features = context.facts.features.iter().map(|(k, v)| [k.clone(), v.clone()]);
    let firewall =
        proto::FirewallBackend { driver: "bascule-ebpf".to_owned(), info: features.collect() };
    proto::Info {
        id: snapshot.desired.predefined.host.to_string(),
        containers: containers.len(),
        containers_running: running,
        containers_stopped: containers.len() - running,
        driver: "none".to_owned(),
        plugins: proto::Plugins {
            network: ["bridge", "host", "null"].map(str::to_owned).into(),
            ..proto::Plugins::default()
        },
        ipv4_forwarding: forwards(),
        kernel_version: context.facts.kernel.clone(),
        operating_system: operating_system(),
        os_type: "linux".to_owned(),
        architecture: std::env::consts::ARCH.to_owned(),
        ncpu: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        mem_total: nix::sys::sysinfo::sysinfo().map_or(0, |info| info.ram_total()),
        docker_root_dir: context.facts.places.get("state_dir").cloned().unwrap_or_default(),
        name: nix::unistd::gethostname()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default(),
        server_version: paths::ENGINE_VERSION.to_owned(),
        swarm: proto::Swarm { local_node_state: "inactive".to_owned(), ..proto::Swarm::default() },
        firewall_backend: (request.version >= FIREWALL_BACKEND).then_some(firewall),
        warnings,
        system_time: format!("{:.9}", jiff::Timestamp::now()),
        ..proto::Info::default()
    }
}

fn forwards() -> bool {
    std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").is_ok_and(|text| text.trim() == "1")
}

fn operating_system() -> String {
    let text = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.map_or_else(|| "Linux".to_owned(), |name| name.trim_matches('"').to_owned())
}
