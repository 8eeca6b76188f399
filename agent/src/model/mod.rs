//! What the agent is asked to make so: pure types, whose constructors let nothing false in.
//!
//! No I/O, no kernel, no clock: everything here can be made and compared in a test.

pub mod alias;
mod config_network;
mod container;
mod denial;
mod desired;
mod docker;
mod given_pool;
mod id;
pub mod index;
mod interface;
pub mod ipam;
mod link;
mod mac;
mod name;
mod naming;
mod network;
mod options;
pub mod pools;
mod publish;
mod shelf;

pub use config_network::{ConfigNetwork, SubnetSpec};
pub use container::{
    Attachment, Container, Endpoint, Lease, Mode, NamespaceId, Process, PublishedRule, Running,
    Sandbox, State,
};
pub use denial::{Comment, Denial, ParseCommentError, ParsePrefixError, Prefix};
pub use desired::{Desired, Former, Indices, Predefined};
pub use docker::{Adoption, Phase};
pub use given_pool::{GLOBAL, GivenPool, LOCAL, ParsePoolIdError, PoolId};
pub use id::{ContainerId, EndpointId, NetworkId, ParseIdError};
pub use interface::{InterfaceOptions, InterfaceSysctl, keys as endpoint_keys};
pub use link::{Link, ParseLinkError};
pub use mac::{MacAddress, ParseMacError};
pub use name::{Name, NetworkName, ParseNameError};
pub use naming::{
    ExtraHost, HostAddress, MOST_TTL, NameSettings, Naming, ParseExtraHostError, Resolver,
    is_domain, name_servers,
};
pub use network::{Family, Network, Pool};
pub use options::{ANNOUNCE_EVERY, ANNOUNCEMENTS, GatewayMode, NetworkOptions, OptionError, keys};
pub use pools::{AddressPool, AddressPoolError, AddressPools};
pub use publish::{Expose, ParsePortError, PortRange, Proto, PublishRange, PublishSpec};
pub use shelf::{CopyOnWrite, Shelf};
