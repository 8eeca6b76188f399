//! Removes everything of ours from the kernel, from pins, names and the journal alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    io,
    path::{Path, PathBuf},
};

use crate::{
    agent::{self, AgentError},
    config::Config,
    kernel::{
        self,
        bpf::{self, BpfError},
        grace::Grace,
        netlink::{Link, Netlink},
        netns,
        owned::Mark,
        sysctl::{self, Restored},
    },
    lock::{LockError, Locks, PinsLock},
    state::store::{self, Store},
};

/// Files that clients of ours leave in the run directory.
const LEFT: [&str; 1] = ["containers"];

/// Why something of ours is still there.
#[derive(Debug, thiserror::Error)]
pub enum CleanupError {
    /// It needs root.
    #[error(transparent)]
    Agent(#[from] Box<AgentError>),
    /// An agent is running.
    #[error("{0}; stop it first")]
    Running(#[from] LockError),
    /// BPF refuses.
    #[error(transparent)]
    Bpf(#[from] BpfError),
    /// Linux refuses.
    #[error(transparent)]
    Kernel(#[from] kernel::Error),
    /// The runtime cannot be made, or a file cannot be removed.
    #[error("cannot clean up: {0}")]
    Io(#[from] io::Error),
}

/// What was removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cleaned {
    /// Programs, maps and their pins.
    pub pins: usize,
    /// Interfaces.
    pub links: usize,
    /// Network namespaces.
    pub sandboxes: usize,
    /// Sysctls that were given back.
    pub sysctls: usize,
    /// What was left as it is, and why.
    pub left: Vec<String>,
}

/// Removes everything of ours; the store only if it is asked for.
pub fn cleanup(config: &Config, purge: bool) -> Result<Cleaned, CleanupError> {
    agent::has_powers().map_err(Box::new)?;
    let locks = Locks::take_existing(&config.state_dir, &config.run_dir)?;
    if config.bpffs.is_dir() {
        // Asked, not held: a directory that is open cannot be unmounted.
        drop(PinsLock::take(&config.bpffs)?);
    }
    if let Some(socket) = &config.docker_plugin {
        // dockerd would wait for somebody to listen there. Not there is as good.
        drop(std::fs::remove_file(socket));
    }
    let mut cleaned = Cleaned::default();
    let grace = Grace::new(&config.run_dir, config.rcu_expedited);
    let shortened = grace.shorten();
    // Interfaces first: while programs are there, nothing gets past them.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(links(&Mark::of_run_dir(&config.run_dir), &mut cleaned))?;
    sandboxes(&config.run_dir.join("netns"), &mut cleaned)?;
    let removed = bpf::cleanup(&config.bpffs)?;
    cleaned.pins = removed.links + removed.filters + removed.maps;
    drop(shortened);
    sysctls(&config.state_dir, &mut cleaned);
    netns::release_directory(&config.run_dir.join("netns"))?;
    // Mounted by the agent where no cgroup2 was found.
    netns::release_directory(&config.run_dir.join("cgroup"))?;
    for name in LEFT {
        absent(std::fs::remove_dir_all(config.run_dir.join(name)))?;
    }
    absent(std::fs::remove_file(config.run_dir.join(crate::api::paths::SOCKET)))?;
    if purge {
        absent(std::fs::remove_file(store::file(&config.state_dir)))?;
    }
    // While they are held: whoever starts next makes new ones.
    for directory in [&config.state_dir, &config.run_dir] {
        absent(std::fs::remove_file(directory.join(crate::lock::FILE)))?;
    }
    drop(locks);
    Ok(cleaned)
}

/// Takes for removed what was not there.
fn absent(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

async fn links(mark: &Mark, cleaned: &mut Cleaned) -> Result<(), kernel::Error> {
    let netlink = Netlink::open()?;
    let links = netlink.links().await?;
    let is_ours =
        |link: &Link| mark.recognise(&link.name, link.alias.as_deref(), link.mac).is_some();
    forget_neighbours(&netlink, &links, is_ours).await?;
    let ours: Vec<_> = links.iter().filter(|link| is_ours(link)).map(|link| link.index).collect();
    cleaned.links += netlink.delete_links(&ours).await?;
    Ok(())
}

/// Removes what was set on bridges that stay: the neighbours whose addresses are behind ports of ours.
async fn forget_neighbours(
    netlink: &Netlink,
    links: &[Link],
    is_ours: impl Fn(&Link) -> bool,
) -> Result<(), kernel::Error> {
    let ports: BTreeMap<u32, u32> =
        links.iter().filter(|l| is_ours(l)).filter_map(|l| Some((l.index, l.master?))).collect();
    let fdb = netlink.fdb().await?;
    let set = fdb.iter().filter(|entry| entry.set);
    let set: BTreeSet<_> =
        set.filter_map(|entry| Some((*ports.get(&entry.port)?, entry.mac))).collect();
    for neighbour in netlink.neighbours().await?.iter().filter(|n| n.permanent) {
        if neighbour.mac.is_some_and(|mac| set.contains(&(neighbour.link, mac))) {
            netlink.delete_neighbour(neighbour.link, neighbour.address).await?;
        }
    }
    Ok(())
}

fn sandboxes(directory: &Path, cleaned: &mut Cleaned) -> Result<(), kernel::Error> {
    let mut names: BTreeMap<PathBuf, Vec<OsString>> = BTreeMap::new();
    for entry in std::fs::read_dir(netns::IP_NETNS_DIR).into_iter().flatten().flatten() {
        if let Ok(target) = std::fs::read_link(entry.path()) {
            names.entry(target).or_default().push(entry.file_name());
        }
    }
    for pin in netns::pinned(directory)? {
        let path = directory.join(&pin.name);
        for name in names.remove(&path).iter().flatten().filter_map(|name| name.to_str()) {
            netns::unpublish(Path::new(netns::IP_NETNS_DIR), name, &path)?;
        }
        netns::remove(&path)?;
        cleaned.sandboxes += 1;
    }
    Ok(())
}

/// Gives sysctls back, where there is a journal.
fn sysctls(state_dir: &Path, cleaned: &mut Cleaned) {
    if !store::file(state_dir).exists() {
        return;
    }
    let restore = |cleaned: &mut Cleaned| -> Result<(), Box<dyn std::error::Error>> {
        let store = Store::open_existing(state_dir)?;
        let mut noted = Ok(());
        for entry in store.sysctls::<sysctl::Entry>()? {
            match sysctl::restore(&entry)? {
                Restored::Done => cleaned.sysctls += 1,
                Restored::Already => {}
                Restored::Foreign(value) => {
                    cleaned
                        .left
                        .push(format!("{} is {value}: somebody changed it since", entry.key));
                }
            }
            // On a full disk they are given back all the same.
            noted = noted.and_then(|()| store.remove_sysctl(&entry.key));
        }
        if let Err(error) = noted {
            cleaned.left.push(format!("the note of the sysctls that were given back: {error}"));
        }
        Ok(())
    };
    if let Err(error) = restore(cleaned) {
        cleaned.left.push(format!("sysctls are not given back: {error}"));
    }
}
