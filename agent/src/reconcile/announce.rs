//! Announces containers' addresses to their neighbours, in the background.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::PathBuf,
    time::Duration,
};

use bascule_common::abi::Mac;

use super::driver::Driver;
use crate::{
    kernel::{self, announce, netlink::Netlink, netns},
    model::{ANNOUNCE_EVERY, ANNOUNCEMENTS, Container, Endpoint, EndpointId},
};

/// How often an end is looked at before it carries frames, and how long is waited between.
const ATTEMPTS: u32 = 200;
const PAUSE: Duration = Duration::from_millis(5);

/// An interface whose addresses are announced.
#[derive(Debug)]
struct Announced {
    container: String,
    path: PathBuf,
    /// Which namespace it was the first time: the path may come to lead to another.
    namespace: Option<netns::Identity>,
    interface: String,
    /// Its end on the host.
    veth: String,
    mac: Mac,
    addresses: Vec<IpAddr>,
}

/// How often, and with how many milliseconds between.
type Rhythm = (u16, u16);

impl Driver {
    /// Announces the addresses of some endpoints.
    pub(super) fn announce(&self, which: &BTreeSet<EndpointId>) {
        if !which.is_empty() {
            self.announce_those(|endpoint| which.contains(&endpoint.id));
        }
    }

    /// Announces the addresses of all endpoints: nobody knows what happened while no agent ran.
    pub(super) fn announce_all(&self) {
        self.announce_those(|_| true);
    }

    fn announce_those(&self, which: impl Fn(&Endpoint) -> bool) {
        let mut by_rhythm: BTreeMap<Rhythm, Vec<Announced>> = BTreeMap::new();
        for container in self.desired.containers.values() {
            for (network, endpoint) in container.endpoints().filter(|(_, e)| which(e)) {
                let of_link =
                    container.attachment(network).map(|place| place.link_local.as_slice());
                let Some(network) = self.desired.networks.get(&network) else { continue };
                let count = network.options.announcements.unwrap_or(ANNOUNCEMENTS);
                let every = network.options.announce_every.unwrap_or(ANNOUNCE_EVERY);
                let announced = self.announced(container, endpoint, of_link.unwrap_or_default());
                by_rhythm.entry((count, every)).or_default().push(announced);
            }
        }
        for ((count, every), all) in by_rhythm {
            let every = Duration::from_millis(every.into());
            tokio::spawn(say(self.machine.netlink.clone(), all, count, every));
        }
    }

    fn announced(
        &self,
        container: &Container,
        endpoint: &Endpoint,
        of_link: &[IpAddr],
    ) -> Announced {
        Announced {
            container: container.name.to_string(),
            path: self.machine.places.namespace(container),
            namespace: None,
            interface: endpoint.interface.clone(),
            veth: endpoint.veth.clone(),
            mac: endpoint.mac.octets(),
            addresses: endpoint.addresses().chain(of_link.iter().copied()).collect(),
        }
    }
}

/// Announces `count` times; what is gone meanwhile is left out from then on.
async fn say(netlink: Netlink, mut all: Vec<Announced>, count: u16, every: Duration) {
    if count > 0 {
        for one in &all {
            carries(&netlink, &one.veth).await;
            inside_carries(one).await;
        }
    }
    for round in 0..count {
        if round > 0 {
            tokio::time::sleep(every).await;
        }
        let mut left = Vec::new();
        for mut one in std::mem::take(&mut all) {
            match once(&mut one).await {
                Ok(()) => left.push(one),
                Err(error) => {
                    tracing::debug!(container = one.container, %error, "not announced any more");
                }
            }
        }
        all = left;
    }
}

/// Waits until an end carries frames: the kernel takes note of a new carrier a moment later, and only then
/// opens the bridge's port. Where it never does, what is announced is lost, and nothing else.
async fn carries(netlink: &Netlink, veth: &str) {
    for _ in 0..ATTEMPTS {
        match netlink.link_named(veth).await {
            Ok(Some(link)) if !link.running => tokio::time::sleep(PAUSE).await,
            _ => return,
        }
    }
}

/// Waits for the container's end likewise: its frames are dropped before, and nothing says so.
async fn inside_carries(one: &Announced) {
    if let Ok(namespace) = netns::Namespace::open(&one.path)
        && let Ok(netlink) = Netlink::open_in(&namespace).await
    {
        carries(&netlink, &one.interface).await;
    }
}

/// Announces once. The namespace is not kept alive in between.
async fn once(one: &mut Announced) -> kernel::Result<()> {
    let namespace = netns::Namespace::open(&one.path)?;
    let identity = namespace.identity()?;
    if *one.namespace.get_or_insert(identity) != identity {
        let name = one.path.display().to_string();
        return Err(kernel::Error::unexpected("announce in", name, "it is another namespace now"));
    }
    let (interface, mac, addresses) = (one.interface.clone(), one.mac, one.addresses.clone());
    namespace.run(move || announce::announce(&interface, mac, &addresses)).await?
}
