//! The agent as a process: starts, serves, stops. The data plane forwards without it.

use std::{
    io::{self, Write},
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use bascule_common::abi;
use nix::unistd::Uid;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{oneshot, watch},
};

pub use crate::cleanup::{Cleaned, CleanupError, cleanup};
use crate::{
    api::{self, proto},
    config::{Bridge, Config, Given, Ipv6},
    dns::{Engine, Names, Stub, Wish},
    docker::service::Service,
    kernel::{
        self,
        bpf::{self, BpfError, CgroupHook, Features, Hooks, Pins, Programs, Report, Sizes, Tables},
        grace::Grace,
        heap,
        netlink::Netlink,
        netns,
        owned::Mark,
    },
    lock::{LockError, Locks, NamespaceLock, PinsLock},
    plan::Settings,
    plugin,
    proxy::Proxy,
    reconcile::{Driver, Machine, Numbers, Options, Places, Shared, StartError},
    reload::Reload,
    state::{
        DefaultIpv6, DefaultNetwork, DefaultPlace,
        store::{Store, StoreError},
    },
    telemetry::{self, Events, Metrics, SharedNames, log},
    ui,
};

/// How often idle connections are collected, and how often where the table is filling up.
const COLLECT: (Duration, Duration) = (Duration::from_secs(15), Duration::from_secs(2));
/// How often in a row that is left out, where the table was empty and nothing came into it.
const LEFT_OUT: u32 = 40;
/// How long requests that have begun may take when the agent stops.
const FAREWELL: Duration = Duration::from_secs(5);

/// Why the agent ends.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// It is not root.
    #[error("the agent needs root: run it with sudo, or as a system service")]
    NotRoot,
    /// It is root without the powers of root.
    #[error(
        "the agent lacks {0}, which it needs for interfaces, BPF programs and namespaces: give it to its container or \
         service, or run it where root is not confined"
    )]
    Lacks(String),
    /// A directory cannot be used.
    #[error("cannot make the directory {path}: {source}")]
    Directory {
        /// The directory.
        path: String,
        /// Why not.
        source: io::Error,
    },
    /// Another agent has the directories.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The log cannot be set up.
    #[error(transparent)]
    Log(#[from] log::LogError),
    /// BPF refuses.
    #[error(transparent)]
    Bpf(#[from] BpfError),
    /// Linux refuses.
    #[error(transparent)]
    Kernel(#[from] kernel::Error),
    /// The store refuses.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What is stored cannot be brought about.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Names cannot be served.
    #[error("cannot listen for questions about names at {address} (--dns-listen): {source}")]
    Stub {
        /// The address.
        address: std::net::SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// Metrics cannot be served.
    #[error(transparent)]
    Metrics(#[from] telemetry::ServeError),
    /// The web page cannot be served.
    #[error(transparent)]
    Ui(#[from] ui::UiError),
    /// The API cannot be served.
    #[error(transparent)]
    Api(#[from] api::server::ServeError),
    /// Metrics cannot be made.
    #[error("cannot make the metrics: {0}")]
    Registry(#[from] prometheus::Error),
    /// The runtime cannot be made.
    #[error("cannot start: {0}")]
    Runtime(io::Error),
}

/// Runs the agent until it is told to stop.
pub fn run(config: &Config, given: &Given) -> Result<(), AgentError> {
    let filter = log::init(&config.log_level, config.log_format)?;
    has_powers()?;
    for directory in [&config.state_dir, &config.run_dir] {
        make_directory(directory)?;
    }
    heap::share();
    let _locks = Locks::take(&config.state_dir, &config.run_dir)?;
    let _namespace = NamespaceLock::take("bascule-agent")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.map_err(AgentError::Runtime)?.block_on(serve(config, given, filter))
}

/// Refuses to begin what could not be done.
pub(crate) fn has_powers() -> Result<(), AgentError> {
    if !Uid::effective().is_root() {
        return Err(AgentError::NotRoot);
    }
    match kernel::process::lacking()?.as_slice() {
        [] => Ok(()),
        lacking => Err(AgentError::Lacks(lacking.join(" and "))),
    }
}

fn make_directory(path: &Path) -> Result<(), AgentError> {
    let failed = |source| AgentError::Directory { path: path.display().to_string(), source };
    std::fs::create_dir_all(path).map_err(failed)
}

/// The data plane, loaded, with what was found on the way.
struct Plane {
    features: Features,
    hooks: Arc<Hooks>,
    programs: Arc<Programs>,
    tables: Arc<Tables>,
    report: Report,
    _lock: PinsLock,
}

fn load(config: &Config) -> Result<Plane, AgentError> {
    let features = Features::probe()?;
    features.check()?;
    tracing::info!("{features}");
    let pins = Pins::open(&config.bpffs)?;
    let lock = PinsLock::take(&config.bpffs)?;
    let wanted = bpf::Wanted { connections: config.max_connections, ..bpf::Wanted::default() };
    let sizes = Sizes::new(bpf::Host::read(), wanted);
    let loaded = bpf::load(&pins, &sizes)?;
    for (map, fate) in &loaded.report.maps {
        match fate {
            bpf::Fate::Replaced { found, wanted } => {
                tracing::warn!(
                    map,
                    found,
                    wanted,
                    "a map of another layout was replaced, its contents are lost"
                );
            }
            fate => tracing::debug!(map, ?fate, "map"),
        }
    }
    tracing::info!("{}", loaded.report.memory);
    let hooks = Arc::new(Hooks::new(pins, features.mode(false)));
    Ok(Plane {
        features,
        hooks,
        programs: Arc::new(loaded.programs),
        tables: Arc::new(loaded.tables),
        report: loaded.report,
        _lock: lock,
    })
}

async fn serve(config: &Config, given: &Given, filter: log::Filter) -> Result<(), AgentError> {
    let started_at = jiff::Timestamp::now();
    // Addresses are taken before anything is made or changed: a clash shows at once.
    let metrics_listener = telemetry::bind(config.metrics_listen).await?;
    let page = take_page(config).await?;
    let stub = take_stub(config).await?;
    let plane = load(config)?;
    let places = Places {
        state: config.state_dir.clone(),
        run: config.run_dir.clone(),
        bpffs: config.bpffs.clone(),
    };
    netns::prepare_directory(&places.sandboxes())?;
    let own = netns::Namespace::current()?;
    let machine = Machine {
        places: places.clone(),
        netlink: Netlink::open()?,
        grace: Grace::new(&config.run_dir, config.rcu_expedited),
        mark: Mark::of_run_dir(&config.run_dir),
        hooks: Arc::clone(&plane.hooks),
        programs: Arc::clone(&plane.programs),
        tables: Arc::clone(&plane.tables),
        numbers: Numbers::default(),
        namespace: own.identity()?,
    };
    let names = SharedNames::default();
    let metrics =
        Arc::new(Metrics::new(Arc::clone(&plane.tables), names.clone(), config.metrics_compat)?);
    let store = Store::open(&config.state_dir)?;
    let options = options(config, own.cookie()?, &plane.tables);
    // A socket carries one dump at a time: who looks by himself has one of his own.
    let netlink = Netlink::open()?;
    // Before the first pass, which puts the programs on its veth.
    let mut server_of_names = Names::prepare(machine.netlink.clone(), machine.mark.clone()).await;
    let (driver, handle) = Driver::start(machine, store, &options, Arc::clone(&metrics)).await?;
    let recent = filter.recent().clone();
    let reload = Reload::listen(given, config, filter, handle.shared.clone());
    let mut warnings = attach_cgroup(config, &plane);
    warnings.extend(is_open(config));
    let proxy = start_proxy(&plane, &metrics, &mut warnings);
    plane.hooks.sweep()?;
    plane.hooks.forget_other_versions()?;
    // Before anybody can take the agent for ready: who asks it to end then has it end in order.
    let told_to_stop = told_to_stop();
    let api_listener = api::server::bind(&config.run_dir)?;
    let plugin = config.docker_plugin.as_deref().map(plugin::Socket::bind).transpose()?;

    let (stop, stopping) = watch::channel(false);
    let stopped = || {
        let mut stopping = stopping.clone();
        async move { drop(stopping.wait_for(|stop| *stop).await) }
    };
    let events = Events::new(names.clone());
    let engine = Arc::new(engine(handle.shared.clone(), &metrics, &events));
    server_of_names.serve(&engine).await;
    let plugging = plugin.map(|socket| {
        let docker = config.docker_socket.clone();
        tokio::spawn(plugin::serve(socket, handle.clone(), docker, stopped()))
    });
    let docker =
        Service::new(&config.docker_socket, &config.docker_config, netlink, handle.clone());
    let following = tokio::spawn(docker.clone().run());
    let context = api::server::Context {
        handle,
        docker,
        places,
        tables: Arc::clone(&plane.tables),
        programs: Arc::clone(&plane.programs),
        events: events.clone(),
        metrics: Arc::clone(&metrics),
        recent,
        names,
        facts: Arc::new(facts(config, &plane, started_at, warnings)),
    };
    let showing = page.map(|page| tokio::spawn(ui::Ui::new(context.clone()).run(page)));
    let serving =
        tokio::spawn(api::server::serve(api_listener, context, Arc::clone(&metrics), stopped()));
    let scraping =
        tokio::spawn(telemetry::serve(metrics_listener, Arc::clone(&metrics), stopped()));
    let watching = tokio::spawn(telemetry::watch(
        events.clone(),
        Arc::clone(&plane.tables),
        config.flow_log.is_some(),
    ));
    let logging = config
        .flow_log
        .clone()
        .map(|path| tokio::spawn(log_flows(events.clone(), path, stopped())));
    let listening = tokio::spawn(listen(events, Arc::clone(&plane.tables)));
    let collecting = tokio::spawn(collect(plane.programs, plane.tables, Arc::clone(&metrics)));
    let reloading = tokio::spawn(reload.run());
    let telling = stub.map(|stub| tokio::spawn(stub.run(Arc::clone(&engine))));
    let naming = tokio::spawn(server_of_names.run(engine));
    let (all_served, served) = oneshot::channel::<()>();
    let driving = tokio::spawn(driver.run(stopped(), async { drop(served.await) }));
    ready(config);
    told_to_stop.await;
    tracing::info!("stopping; the data plane goes on");
    notify("STOPPING=1");
    // Who listens no longer has stopped.
    let _ = stop.send(true);
    let plugging = async {
        if let Some(plugging) = plugging {
            drop(plugging.await);
        }
    };
    let farewell = async {
        drop(tokio::join!(serving, plugging, scraping));
        if let Some(logging) = logging {
            drop(logging.await);
        }
        drop(all_served);
        drop(driving.await);
    };
    if tokio::time::timeout(FAREWELL, farewell).await.is_err() {
        tracing::warn!("requests that had begun were cut short");
    }
    showing.iter().for_each(tokio::task::JoinHandle::abort);
    following.abort();
    watching.abort();
    listening.abort();
    reloading.abort();
    collecting.abort();
    naming.abort();
    metrics.dns.keep();
    telling.iter().for_each(tokio::task::JoinHandle::abort);
    drop(proxy);
    // Not there any more is as good.
    drop(std::fs::remove_file(config.run_dir.join(api::paths::SOCKET)));
    Ok(())
}

fn options(config: &Config, netns_cookie: u64, tables: &Tables) -> Options {
    let place = match &config.bridge {
        Bridge::None => DefaultPlace::Absent,
        Bridge::Automatic => DefaultPlace::Automatic,
        Bridge::Fixed(network) => DefaultPlace::Fixed(*network),
        Bridge::Brought(name) => DefaultPlace::Brought(name.clone()),
    };
    let bridge = DefaultNetwork {
        place,
        range: config.fixed_cidr,
        icc: config.icc,
        host_binding: config.ip,
        mtu: config.mtu,
    };
    let settings = Settings {
        config: abi::Config {
            netns_cookie,
            accept_mark: config.accept_mark.map_or(0, |mark| mark.value),
            accept_mark_mask: config.accept_mark.map_or(0, |mark| mark.mask),
            half_open: bpf::half_open([tables.flows4.capacity(), tables.flows6.capacity()]),
            ..abi::Config::default()
        },
        uplinks: config.uplinks.clone(),
        masquerade: config.ip_masq,
        direct_routing: config.allow_direct_routing,
        default_bridge_dns: config.names.default_bridge,
    };
    let ipv6 = match config.ipv6 {
        Ipv6::Off => DefaultIpv6::Off,
        Ipv6::Automatic => DefaultIpv6::Automatic,
        Ipv6::Fixed(subnet) => DefaultIpv6::Fixed(subnet),
    };
    let pools = config.pools.clone();
    let publish_range = config.publish_range;
    Options { settings, bridge, ipv6, ip_forward: config.ip_forward, pools, publish_range }
}

/// Reserves published ports on the host, and leads its processes to them; returns what the operator should know where that cannot be.
fn attach_cgroup(config: &Config, plane: &Plane) -> Vec<String> {
    let attach = || -> Result<(), BpfError> {
        let cgroup = bpf::find_cgroup(config.cgroup.as_deref(), &config.run_dir)?;
        for hook in CgroupHook::ALL {
            plane.hooks.attach_cgroup(&plane.programs, &cgroup, hook)?;
        }
        Ok(())
    };
    let result = if plane.features.cgroup_bind() {
        attach().map_err(|error| error.to_string())
    } else {
        Err("this kernel's cgroup programs cannot refuse a port".to_owned())
    };
    let Err(error) = result else { return Vec::new() };
    let warning = format!(
        "processes of the host can take published ports, and reach them by the agent's proxy alone: {error}"
    );
    tracing::warn!("{warning}");
    vec![warning]
}

/// Serves those processes of the host whose sockets cannot be led.
fn start_proxy(plane: &Plane, metrics: &Arc<Metrics>, warnings: &mut Vec<String>) -> Option<Proxy> {
    let (tables, metrics) = (Arc::clone(&plane.tables), Arc::clone(metrics));
    match Proxy::start(plane.hooks.pins(), &plane.programs, tables, metrics) {
        Ok(proxy) => Some(proxy),
        Err(error) => {
            let warning =
                format!("processes bound to loopback addresses reach no published port: {error}");
            tracing::warn!("{warning}");
            warnings.push(warning);
            None
        }
    }
}

/// Takes the address at which processes of the host ask for names, where there is to be one.
async fn take_stub(config: &Config) -> Result<Option<Stub>, AgentError> {
    let Some(address) = config.dns_listen else { return Ok(None) };
    let failed = |source| AgentError::Stub { address, source };
    Stub::bind(address).await.map(Some).map_err(failed)
}

/// Takes the address of the web page, where there is to be one.
async fn take_page(config: &Config) -> Result<Option<tokio::net::TcpListener>, ui::UiError> {
    match config.ui {
        Some(address) => ui::bind(address).await.map(Some),
        None => Ok(None),
    }
}

/// Says so where others than the host's own processes see the web page.
fn is_open(config: &Config) -> Option<String> {
    let address = config.ui.filter(|address| !address.ip().is_loopback())?;
    let warning = format!(
        "the web page at {address} shows containers, addresses and connections to everybody who reaches it, \
         without a password or encryption (--ui)"
    );
    tracing::warn!("{warning}");
    Some(warning)
}

/// What answers questions about names, from what holds now.
fn engine(shared: Shared, metrics: &Arc<Metrics>, events: &Events) -> Engine {
    let wishes = move || {
        let snapshot = shared.get();
        let names = snapshot.configured.names.clone();
        Wish { desired: Arc::clone(&snapshot.desired), names }
    };
    Engine::new(Arc::new(wishes), Arc::clone(metrics), events.clone())
}

fn facts(
    config: &Config,
    plane: &Plane,
    started_at: jiff::Timestamp,
    warnings: Vec<String>,
) -> api::server::Facts {
    let text = |path: &Path| path.display().to_string();
    let pair = |(key, value): (&str, String)| (key.to_owned(), value);
    let page = config.ui.map(|address| ("ui", address.to_string()));
    let places = [
        ("state_dir", text(&config.state_dir)),
        ("run_dir", text(&config.run_dir)),
        ("bpffs", text(&config.bpffs)),
        ("metrics_listen", config.metrics_listen.to_string()),
    ];
    let Features { kernel, tcx, jit, btf, .. } = &plane.features;
    let features: proto::Map = [
        ("kernel", kernel.clone()),
        ("tcx", tcx.to_string()),
        ("jit", jit.to_string()),
        ("btf", btf.to_string()),
        ("cgroup_bind", plane.features.cgroup_bind().to_string()),
        ("attach_mode", plane.hooks.mode().label().to_owned()),
        ("map_bytes", plane.report.memory.total.to_string()),
    ]
    .into_iter()
    .map(pair)
    .collect();
    api::server::Facts {
        started_at: Some(started_at),
        places: places.into_iter().chain(page).map(pair).collect(),
        features,
        supported: plane.features.supported(),
        kernel: kernel.clone(),
        warnings,
    }
}

/// Reads the ring of events, for as long as there is one.
async fn listen(events: Events, tables: Arc<Tables>) {
    if let Err(error) = events.run(&tables).await {
        tracing::error!(%error, "drops are not told any more; they are counted");
    }
}

/// Writes the log of connections, where one is asked for.
async fn log_flows(events: Events, path: PathBuf, stop: impl Future<Output = ()>) {
    if let Err(error) = telemetry::flowlog::log(events, path.clone(), stop).await {
        tracing::error!(path = %path.display(), %error, "connections are not logged");
    }
}

/// Collects idle connections, oftener where the table is filling up.
async fn collect(programs: Arc<Programs>, tables: Arc<Tables>, metrics: Arc<Metrics>) {
    let (mut pause, mut done, mut left_out) = (COLLECT.0, None, 0);
    loop {
        tokio::time::sleep(pause).await;
        metrics.dns.keep();
        // Looking through a table costs as much where it is empty: it is left out while nothing has come into it.
        let before = tables.entered().ok();
        if done.is_some() && done == before && left_out < LEFT_OUT {
            left_out += 1;
            continue;
        }
        left_out = 0;
        let work = {
            let (programs, tables) = (Arc::clone(&programs), Arc::clone(&tables));
            move || bpf::collect(&programs, &tables)
        };
        let begin = Instant::now();
        match tokio::task::spawn_blocking(work).await {
            Ok(Ok(outcome)) => {
                metrics.collected(outcome, begin.elapsed());
                let left = outcome.seen.saturating_sub(outcome.removed);
                done = before.filter(|_| left == 0);
                let pressed = left > u64::from(tables.flows4.capacity()) / 10 * 7;
                pause = if pressed { COLLECT.1 } else { COLLECT.0 };
            }
            Ok(Err(error)) => tracing::warn!(%error, "idle connections are not collected"),
            Err(error) => tracing::error!(%error, "idle connections are not collected"),
        }
    }
}

/// Listens from now on for the signals that ask for an end; what is returned waits for one.
fn told_to_stop() -> impl Future<Output = ()> {
    let signals = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    async move {
        match signals {
            (Ok(mut terminate), Ok(mut interrupt)) => {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
            }
            // Without handlers the signals end the process, which is no worse.
            _ => std::future::pending().await,
        }
    }
}

/// Says that requests are answered: on standard output, and to a service manager.
fn ready(config: &Config) {
    let socket = config.run_dir.join(api::paths::SOCKET);
    tracing::info!(socket = %socket.display(), metrics = %config.metrics_listen, "ready");
    // Where nobody reads it, the socket is there all the same.
    let line = format!("bascule agent is ready at {}", socket.display());
    drop(writeln!(io::stdout().lock(), "{line}"));
    notify("READY=1");
}

/// Tells a service manager, where there is one.
fn notify(state: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let send = || -> io::Result<usize> {
        use std::os::{linux::net::SocketAddrExt, unix::ffi::OsStrExt, unix::net::SocketAddr};
        let address = match path.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            _ => SocketAddr::from_pathname(&path)?,
        };
        UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address)
    };
    if let Err(error) = send() {
        tracing::warn!(%error, "the service manager cannot be told {state}");
    }
}
