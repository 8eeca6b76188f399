//! What both ways from Docker to networks of ours are asked alike: cases of the field's own suites that a client of
//! Docker can express. Each of the two layers runs them on a stage of its own.

pub mod compose;
pub mod lives;
mod names;
pub mod outside;
mod places;
mod ports;
mod requests;
pub mod six;

use std::net::{Ipv4Addr, SocketAddrV4};

use super::Dockerd;
use crate::{Agent, Container, Topology, wait};

/// What a container runs that somebody is to start later, or nobody.
const IDLE: &str = "busybox /bin/busybox sleep 100000";
/// What options of Docker's bridges begin with.
const KEY: &str = "com.docker.network.bridge";
const LOOPBACK: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// Containers, their names, and who reaches whom.
pub fn who_reaches_whom(way: &Way<'_>) {
    way.network("blue", "--subnet 10.71.0.0/24");
    way.network("green", "--subnet 10.72.0.0/24");
    places::all(way);
    outside::all(way);
    names::all(way);
    way.done();
}

/// Published ports, and what becomes of them and of containers.
pub fn what_is_published_and_what_becomes_of_it(way: &Way<'_>) {
    way.network("blue", "--subnet 10.71.0.0/24");
    way.network("green", "--subnet 10.72.0.0/24");
    ports::all(way);
    requests::all(way);
    lives::all(way);
    way.done();
}

/// A host with Docker whose networks are ours, in one of the two ways.
#[derive(Clone, Copy, Debug)]
pub struct Way<'a> {
    /// The agent.
    pub agent: &'a Agent,
    /// Docker's daemon.
    pub docker: &'a Dockerd,
    /// The world.
    pub net: &'a Topology,
    /// What `docker network create` is told, so that the network is one of ours.
    pub driver: &'static str,
    /// Waits until what Docker has done is done here, too, but for containers that are on no network of ours, by id.
    pub settle: fn(&Agent, &Dockerd, &[&str]),
}

impl Way<'_> {
    /// Waits until what Docker has done is done here, too.
    pub fn settle(&self) {
        (self.settle)(self.agent, self.docker, &[]);
    }

    /// Demands that nothing is left.
    fn done(&self) {
        self.docker.ok("network rm blue green");
        self.settle();
        assert_eq!(self.agent.ok("ps -aq"), "");
    }

    /// Makes a network of ours.
    #[track_caller]
    pub fn network(&self, name: &str, options: &str) {
        self.docker.ok(&format!("network create {} {options} {name}", self.driver));
    }

    /// Runs containers side by side, and waits until they are known.
    #[track_caller]
    pub fn containers<const N: usize>(&self, wanted: [(&str, &str, &str); N]) -> [Container; N] {
        let containers = self.docker.containers(wanted);
        self.settle();
        containers
    }

    /// Runs a container, and waits until it is known.
    #[track_caller]
    pub fn container(&self, name: &str, network: &str, options: &str) -> Container {
        let [container] = self.containers([(name, network, options)]);
        container
    }

    /// Removes containers, and waits until they are gone.
    #[track_caller]
    pub fn remove(&self, names: &str) {
        self.docker.ok(&format!("rm --force {names}"));
        self.settle();
    }

    /// What `bascule port` says of a container, once it is known by its name.
    #[track_caller]
    pub fn ports(&self, container: &str) -> Vec<String> {
        wait::wait_for(&format!("the name {container}"), wait::START, || {
            let out = self.agent.cli(["port", container]);
            out.ok().then(|| out.stdout.lines().map(str::to_owned).collect())
        })
    }

    /// The port of the host that leads to one of a container's, such as `80/tcp`.
    #[track_caller]
    pub fn published(&self, container: &str, port: &str) -> u16 {
        let ports = self.ports(container);
        let line = ports.iter().find(|line| line.starts_with(&format!("{port} ")));
        let found = line.and_then(|line| line.rsplit(':').next()?.parse().ok());
        found.unwrap_or_else(|| panic!("{container} {port}: {ports:?}"))
    }
}

/// An address with a port.
pub const fn at(ip: Ipv4Addr, port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(ip, port)
}

/// The address that a container has on the network of another one.
fn beside(container: &Container, other: &Container) -> Ipv4Addr {
    let subnet = other.address().octets();
    let mine = container.ns.interfaces().into_iter().filter(|name| name != "lo");
    let mut mine = mine.map(|interface| container.address_on(&interface));
    let found = mine.find(|address| address.octets()[..3] == subnet[..3]);
    found.unwrap_or_else(|| panic!("{} is not where {} is", container.name, other.name))
}
