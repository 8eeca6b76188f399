//! Where the server of names listens: a network namespace that nothing pins and that goes with the agent's sockets,
//! and a veth to it. Whatever comes in by the veth is for the server, whatever address it was sent to; so it answers
//! from the gateway's address that was asked, and knows who asks.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::{Duration, Instant},
};

use super::{
    container,
    error::{Error, Result},
    netlink::{Netlink, NewVeth},
    netns::Namespace,
    owned::{Mark, NAMES_VETH},
    sysctl,
};

/// The far end of the veth.
const INSIDE: &str = "names0";
/// Its address; that of the host end is the one that every link of ours is born with.
const INSIDE_MAC: [u8; 6] = [0x02, 0x62, 0x73, 0x63, 0, 0x35];
/// No bound: who asks says how large the segments of an answer may be.
const MTU: u32 = 65_535;
/// Routers that are never asked for, because the far end asks for nobody.
const ROUTERS: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 53, 1)),
    IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1)),
];
/// Where containers without IPv4 ask from.
const WITHOUT_IPV4: (Ipv4Addr, u8) = (Ipv4Addr::new(127, 64, 0, 0), 10);
/// How long what an agent before has left may take to go.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where the server of names listens.
#[derive(Debug)]
pub struct Place {
    /// The namespace.
    pub namespace: Namespace,
    /// Whether it has IPv6.
    pub has_ipv6: bool,
    /// Index of the host end of the veth.
    pub index: u32,
}

/// Makes it, instead of one that is there.
pub async fn make(netlink: &Netlink, mark: &Mark) -> Result<Place> {
    remove(netlink, mark).await?;
    let namespace = Namespace::anonymous()?;
    let new = NewVeth {
        name: NAMES_VETH,
        birth_mac: mark.birth_mac(NAMES_VETH),
        alias: &mark.names_alias(),
        mtu: MTU,
        peer: INSIDE,
        peer_mac: INSIDE_MAC,
        peer_namespace: std::os::fd::AsFd::as_fd(&namespace),
    };
    let (index, _) = netlink.create_veth(&new).await?;
    let prepared = namespace.run(|| {
        sysctl::allow_loopback(&[INSIDE])?;
        quiet(INSIDE, false)
    });
    let has_ipv6 = prepared.await??;
    quiet(NAMES_VETH, true)?;
    let inside = Netlink::open_in(&namespace).await?;
    container::set_loopback_up(&inside).await?;
    let Some(link) = inside.link_named(INSIDE).await? else {
        return Err(Error::unexpected("set up", INSIDE, "it is not there"));
    };
    inside.stop_asking(link.index).await?;
    inside.set_up(link.index, true).await?;
    let routers = if has_ipv6 { &ROUTERS[..] } else { &ROUTERS[..1] };
    inside.take_all(link.index, INSIDE, routers).await?;
    inside.lead_out(WITHOUT_IPV4, link.index, 0, None).await?;
    netlink.set_up(index, true).await?;
    Ok(Place { namespace, has_ipv6, index })
}

/// Whether the veth is still there.
pub async fn is_there(netlink: &Netlink, place: &Place) -> Result<bool> {
    let link = netlink.link_named(NAMES_VETH).await?;
    Ok(link.is_some_and(|link| link.index == place.index && link.up))
}

/// Removes the veth; one that somebody else has made under its name is left alone, and in the way.
async fn remove(netlink: &Netlink, mark: &Mark) -> Result<()> {
    let begin = Instant::now();
    while let Some(link) = netlink.link_named(NAMES_VETH).await? {
        if mark.recognise(&link.name, link.alias.as_deref(), link.mac).is_none() {
            return Err(Error::Foreign { action: "create", object: format!("veth {NAMES_VETH}") });
        }
        if begin.elapsed() > PATIENCE {
            return Err(Error::unexpected("remove", NAMES_VETH, "it does not go"));
        }
        netlink.delete_link(link.index).await?;
    }
    Ok(())
}

/// Has an interface say nothing by itself; tells whether it has IPv6.
fn quiet(interface: &str, off: bool) -> Result<bool> {
    let key = |setting| sysctl::ipv6_of(interface, setting);
    if !sysctl::exists(&key("disable_ipv6")) {
        return Ok(false);
    }
    for (setting, value) in [("addr_gen_mode", "1"), ("accept_ra", "0"), ("accept_dad", "0")] {
        sysctl::write(&key(setting), value)?;
    }
    sysctl::write(&key("disable_ipv6"), if off { "1" } else { "0" })?;
    Ok(!off)
}
