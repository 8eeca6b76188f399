//! Names of programs and maps: the function, the symbol in the object and the pin are one word.

/// Programs attached to interfaces.
pub mod program {
    /// Ingress of the host end of a veth: everything a container sends.
    pub const FROM_CONTAINER: &str = "from_container";
    /// Egress of the host end of a veth: what the kernel itself sends to a container.
    pub const TO_CONTAINER: &str = "to_container";
    /// Egress of the device that holds the gateway's addresses of a network without a bridge.
    pub const TO_BRIDGE: &str = "to_bridge";
    /// Ingress of the host end of the veth of the server of names.
    pub const FROM_NAMES: &str = "from_names";
    /// Ingress of an uplink.
    pub const FROM_UPLINK: &str = "from_uplink";
    /// Egress of an uplink.
    pub const TO_UPLINK: &str = "to_uplink";
    /// Ingress of an uplink without Ethernet headers (tun, WireGuard, ipip).
    pub const FROM_UPLINK_L3: &str = "from_uplink_l3";
    /// Egress of an uplink without Ethernet headers.
    pub const TO_UPLINK_L3: &str = "to_uplink_l3";
    /// Removes idle flows; run by the agent through `BPF_PROG_TEST_RUN`, attached nowhere.
    pub const COLLECT_FLOWS4: &str = "collect_flows4";
    /// The same for IPv6.
    pub const COLLECT_FLOWS6: &str = "collect_flows6";
    /// XDP on an uplink: the deny list.
    pub const DENY: &str = "deny";
    /// cgroup `bind4`: published ports are taken.
    pub const BIND4: &str = "bind4";
    /// cgroup `bind6`: published ports are taken.
    pub const BIND6: &str = "bind6";
    /// cgroup `connect4`: a process of the host asks for a published port.
    pub const CONNECT4: &str = "connect4";
    /// The same by IPv6.
    pub const CONNECT6: &str = "connect6";
    /// cgroup `sendmsg4`: the same for a datagram of an unconnected socket.
    pub const SENDMSG4: &str = "sendmsg4";
    /// The same by IPv6.
    pub const SENDMSG6: &str = "sendmsg6";
    /// cgroup `recvmsg4`: a datagram comes from where the process sent one to.
    pub const RECVMSG4: &str = "recvmsg4";
    /// The same by IPv6.
    pub const RECVMSG6: &str = "recvmsg6";
    /// cgroup `getpeername4`: the peer is whom the process asked for.
    pub const GETPEERNAME4: &str = "getpeername4";
    /// The same by IPv6.
    pub const GETPEERNAME6: &str = "getpeername6";
    /// Look-up of sockets: what arrives by the loopback device at a published port is the proxy's.
    pub const TO_PROXY: &str = "to_proxy";
}

/// Maps, all pinned.
pub mod map {
    /// [`crate::abi::Endpoint`] by interface index below [`ENDPOINTS_LEN`].
    pub const ENDPOINTS: &str = "ENDPOINTS";
    /// [`crate::abi::Endpoint`] by interface index from [`ENDPOINTS_LEN`] on.
    pub const ENDPOINTS_HI: &str = "ENDPOINTS_HI";
    /// Entries of [`ENDPOINTS`].
    pub const ENDPOINTS_LEN: u32 = 65_536;
    /// [`crate::abi::Neighbour`] by [`crate::abi::NeighbourKey4`].
    pub const NEIGHBOURS4: &str = "NEIGHBOURS4";
    /// [`crate::abi::Network`] by network index.
    pub const NETWORKS: &str = "NETWORKS";
    /// Entries of [`NETWORKS`].
    pub const NETWORKS_LEN: u32 = 4_096;
    /// Generation (`u64`) by endpoint index; by [`TABLES_GENERATION`] that of the tables.
    pub const GENERATIONS: &str = "GENERATIONS";
    /// Endpoint indices: 1 up to this, exclusive.
    pub const ENDPOINT_INDICES: u32 = 65_536;
    /// The slot of [`GENERATIONS`] that whoever writes a table raises before and afterwards: what packets found before
    /// counts no longer ([`crate::datapath::short`]). Its lowest bits say what goes on meanwhile ([`crate::abi::watch`]).
    pub const TABLES_GENERATION: u32 = 0;
    /// [`crate::abi::Local`] by address.
    pub const LOCALS4: &str = "LOCALS4";
    /// [`crate::abi::Local`] by IPv6 address.
    pub const LOCALS6: &str = "LOCALS6";
    /// [`crate::abi::Neighbour`] by [`crate::abi::NeighbourKey6`].
    pub const NEIGHBOURS6: &str = "NEIGHBOURS6";
    /// [`crate::abi::Flow6`] by [`crate::abi::FlowKey6`].
    pub const FLOWS6: &str = "FLOWS6";
    /// [`crate::abi::FragmentPorts`] by [`crate::abi::FragmentKey6`].
    pub const FRAGMENTS6: &str = "FRAGMENTS6";
    /// [`crate::abi::Subnet`] by IPv6 prefix.
    pub const SUBNETS6: &str = "SUBNETS6";
    /// Rule index (`u64`) by [`crate::abi::ServedKey`] prefix.
    pub const SERVED: &str = "SERVED";
    /// `u64` (1) by [`crate::abi::TrustKey`].
    pub const TRUSTED: &str = "TRUSTED";
    /// Network index (`u64`) by index of the device that stands for a network without a bridge.
    pub const BRIDGES: &str = "BRIDGES";
    /// Tables of [`crate::abi::PortSlot`].
    pub const PORTS: &str = "PORTS";
    /// [`crate::abi::Rule`] by rule index.
    pub const RULES: &str = "RULES";
    /// Rule indices: 1 up to this, exclusive.
    pub const RULES_LEN: u32 = 262_144;
    /// [`crate::abi::Flow4`] by [`crate::abi::FlowKey4`].
    pub const FLOWS4: &str = "FLOWS4";
    /// [`crate::abi::FragmentPorts`] by [`crate::abi::FragmentKey4`].
    pub const FRAGMENTS4: &str = "FRAGMENTS4";
    /// [`crate::abi::Subnet`] by prefix.
    pub const SUBNETS4: &str = "SUBNETS4";
    /// `u64` (1) by [`crate::abi::LinkKey`].
    pub const LINKS: &str = "LINKS";
    /// [`crate::abi::Uplink`] by interface index.
    pub const UPLINKS: &str = "UPLINKS";
    /// [`crate::abi::EndpointCounters`] by endpoint index, per CPU.
    pub const ENDPOINT_STATS: &str = "ENDPOINT_STATS";
    /// [`crate::abi::RuleCounters`] by rule index, per CPU.
    pub const RULE_STATS: &str = "RULE_STATS";
    /// [`crate::abi::Count`] by [`crate::abi::DropKey`], per CPU.
    pub const DROPS: &str = "DROPS";
    /// `u64` by [`crate::abi::Stat`], per CPU.
    pub const STATS: &str = "STATS";
    /// [`crate::abi::Event`] records.
    pub const EVENTS: &str = "EVENTS";
    /// Per-CPU token bucket of [`EVENTS`].
    pub const EVENT_TOKENS: &str = "EVENT_TOKENS";
    /// [`crate::abi::Config`] in slot 0.
    pub const CONFIG: &str = "CONFIG";

    /// [`crate::abi::Denied`] by IPv4 prefix.
    pub const DENY4: &str = "DENY4";
    /// [`crate::abi::Denied`] by IPv6 prefix.
    pub const DENY6: &str = "DENY6";
    /// [`crate::abi::Count`] by slot of the deny list, per CPU.
    pub const DENY_STATS: &str = "DENY_STATS";
    /// `u64` in slot 0: 1 where `from_uplink` has to ask the deny list.
    pub const DENY_LATE: &str = "DENY_LATE";

    /// Every map that is pinned.
    pub const ALL: [&str; 40] = [
        ENDPOINTS,
        ENDPOINTS_HI,
        NEIGHBOURS4,
        NETWORKS,
        GENERATIONS,
        LOCALS4,
        PORTS,
        RULES,
        FLOWS4,
        FRAGMENTS4,
        SUBNETS4,
        LINKS,
        UPLINKS,
        ENDPOINT_STATS,
        RULE_STATS,
        DROPS,
        STATS,
        EVENTS,
        EVENT_TOKENS,
        CONFIG,
        COLLECTED,
        LOCALS6,
        NEIGHBOURS6,
        FLOWS6,
        FRAGMENTS6,
        SUBNETS6,
        SERVED,
        TRUSTED,
        BRIDGES,
        DENY4,
        DENY6,
        DENY_STATS,
        DENY_LATE,
        SOCKETS,
        PROXIES,
        TALLIES,
        TRAFFIC4,
        TRAFFIC6,
        CHOSEN,
        QUESTIONS,
    ];
    /// `u64` by [`crate::abi::Tally`]: no program knows it.
    pub const TALLIES: &str = "TALLIES";
    /// `u64` by [`crate::abi::QuestionKey`]: no program knows it.
    pub const QUESTIONS: &str = "QUESTIONS";
    /// [`crate::abi::Traffic`] by [`crate::abi::FlowKey4`], while somebody watches connections.
    pub const TRAFFIC4: &str = "TRAFFIC4";
    /// [`crate::abi::Traffic`] by [`crate::abi::FlowKey6`].
    pub const TRAFFIC6: &str = "TRAFFIC6";
    /// [`crate::abi::Chosen`] by number: whose packets are told.
    pub const CHOSEN: &str = "CHOSEN";
    /// [`crate::abi::SocketOrigin`] by [`crate::abi::SocketKey`].
    pub const SOCKETS: &str = "SOCKETS";
    /// The proxy's sockets, by the slots below.
    pub const PROXIES: &str = "PROXIES";
    /// Entries of [`PROXIES`].
    pub const PROXIES_LEN: u32 = 4;
    /// Slot of the listener for TCP over IPv4.
    pub const PROXY_TCP4: u32 = 0;
    /// Slot of the listener for TCP over IPv6.
    pub const PROXY_TCP6: u32 = 1;
    /// Slot of the socket for UDP over IPv4.
    pub const PROXY_UDP4: u32 = 2;
    /// Slot of the socket for UDP over IPv6.
    pub const PROXY_UDP6: u32 = 3;
    /// Result of the last collection: see `datapath::collect`.
    pub const COLLECTED: &str = "COLLECTED";
}
