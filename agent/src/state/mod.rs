//! What was asked for: how it may change ([`change`]), and where it is kept ([`store`]).

mod attachment;
pub mod change;
mod container;
pub mod crash;
mod deny;
mod docker;
mod facts;
pub mod find;
mod former;
mod lifecycle;
mod links;
mod network;
mod plugin;
mod publish;
mod rejected;
pub mod store;
mod subnet;

pub use change::{
    Change, ContainerSpec, DefaultIpv6, DefaultNetwork, DefaultPlace, EndpointSpec, NetworkSpec,
    Outcome, PruneFilter,
};
pub use docker::{Docker, DockerContainer, DockerEndpoint, DockerNetwork, DockerPort};
pub use facts::{Brought, Facts};
pub use lifecycle::{brings, rules};
pub use plugin::{EndpointWish, LearntContainer, LearntNetwork, PluginChange};
pub use rejected::{Kind, Rejected};

pub use crate::model::SubnetSpec;

#[cfg(test)]
mod tests;
