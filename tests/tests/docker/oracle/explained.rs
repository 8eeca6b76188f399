//! Why we do some things otherwise. Each difference belongs to the first reason that it fits.

use super::{Difference, stage::Proxy};

/// Why some questions are answered differently.
pub struct Reason {
    /// What differs, in a line.
    pub title: &'static str,
    /// Whose doing it is, and why it is wanted.
    pub why: &'static str,
    /// Whether a difference is of this kind.
    pub fits: fn(&Difference) -> bool,
}

const SEES_CLIENT: &str = "answered; the server sees the client";
const FROM_CLIENT: &str = "arrives from the client";
const SEES_GATEWAY: &str = "answered; the server sees the server's gateway";

fn internal(difference: &Difference) -> bool {
    ["i1", "i2"].contains(&difference.cell.from.as_str())
}

fn published(difference: &Difference) -> bool {
    difference.cell.to.starts_with("port of ")
}

fn beyond(difference: &Difference) -> bool {
    ["outside", "neighbour"].contains(&difference.cell.from.as_str())
}

/// All of them.
pub const REASONS: [Reason; 19] = [
    Reason {
        title: "Containers' own addresses are closed to the outside",
        why: "Who knows a route to a container's subnet reaches, by Docker 20.10, every published port at the \
              container's own address and past the host's: a port published on `127.0.0.1` as well. Docker 28 closed \
              that (MOBY-INC-007), and so do we (`direct_routing_blocked`). `nat-unprotected` and `routed` networks, \
              trusted interfaces and `--allow-direct-routing` open it on purpose.",
        fits: |d| {
            let reached = d.docker == SEES_CLIENT || d.docker.starts_with(FROM_CLIENT);
            beyond(d) && !published(d) && reached && d.bascule == "silence"
        },
    },
    Reason {
        title: "Internal networks have no default route",
        why: "Docker 20.10 gives the containers of an internal network a default route to their gateway, drops what \
              they send beyond the host, and lets them reach every address of the host. Ours have no default route, as \
              those of newer engines (MOBY-INT-001): what is not on the network fails at once, instead of after a \
              time-out, and the host is reached at their own gateway's address alone.",
        fits: |d| internal(d) && d.bascule == "no route",
    },
    Reason {
        title: "Links hold for IPv6",
        why: "Docker opens the exposed ports of a link's target in iptables alone, for IPv4, and without ICC drops the \
              neighbour discovery that IPv6 would begin with. A link is between two containers, whatever the family.",
        fits: |d| {
            d.cell.family == 6
                && (d.cell.from.as_str(), d.cell.to.as_str()) == ("d3", "d1")
                && d.bascule.starts_with("answered")
        },
    },
    Reason {
        title: "Internal networks and networks without ICC have working IPv6 inside",
        why: "Docker 20.10's IPv6 rules for these networks drop the containers' neighbour discovery, where \
              `br_netfilter` shows bridged packets to them. On an internal network, where containers should reach each \
              other, they do not; without ICC they should not, and are told so by the failed discovery. Ours reach each \
              other on the one, and are dropped in silence on the other (`policy_icc`), as with IPv4.",
        fits: |d| {
            let undiscovered = ["host unreachable", "an ICMP error"].contains(&d.docker.as_str());
            let by_hand = d.docker == "silence" && d.bascule.starts_with(FROM_CLIENT);
            d.cell.family == 6 && !published(d) && (undiscovered || by_hand && internal(d))
        },
    },
    Reason {
        title: "Networks without masquerade reach published ports",
        why: "Docker leaves what containers send to published ports to its proxy, by a rule that it makes for networks \
              with masquerade alone. Without it the packet is translated, and then dropped as one from network to \
              network. A published port is there for all networks (MOBY-INC-006), and ours is.",
        fits: |d| {
            d.proxy == Proxy::On
                && d.cell.from == "m1"
                && d.docker == "silence"
                && d.bascule == SEES_CLIENT
        },
    },
    Reason {
        title: "IPv6 clients of a container without IPv6",
        why: "Docker's proxy listens on `[::]` for every published port and carries IPv6 clients to containers that have \
              IPv4 only. We have no process between client and container: a port is published for the families that the \
              container has, and IPv6 clients are refused. Only the host's own `[::1]` is served (by the agent's proxy), \
              since `localhost` means that, too.",
        fits: |d| d.cell.family == 6 && d.cell.to == "port of p1" && d.bascule == "refused",
    },
    Reason {
        title: "The server sees which container asks",
        why: "By Docker, a container that asks for a published port of another network talks to the proxy: the server \
              sees its own gateway, whoever asks, and datagrams come back from the address of the client's gateway \
              instead of the one that was asked, which a client with a connected socket never sees. Ours arrive with \
              the client's own address, and answers come from where they were asked for.",
        fits: |d| {
            published(d)
                && d.docker.ends_with("the server sees the server's gateway")
                && d.bascule == SEES_CLIENT
        },
    },
    Reason {
        title: "Datagrams come back from the address that was asked",
        why: "The same proxy, between containers of one network: the source is the gateway with both (the server would \
              answer its neighbour past the translation otherwise), and Docker's answers come from another address \
              than was asked.",
        fits: |d| published(d) && d.docker.starts_with("answered by ") && d.bascule == SEES_GATEWAY,
    },
    Reason {
        title: "Processes of the host come from the gateway's address",
        why: "Docker translates the destination of what a process of the host sends to a published port, after the \
              kernel has chosen the source for it. We lead the socket itself to the container: the kernel chooses the \
              address of the bridge, as for everything that the host says to its containers. By 127.0.0.1, and \
              without its proxy, Docker has that address, too.",
        fits: |d| {
            let answered = d.docker.starts_with("answered; the server sees");
            d.cell.from == "host" && published(d) && answered && d.bascule == SEES_GATEWAY
        },
    },
    Reason {
        title: "The host's talk to itself is left alone",
        why: "Docker masquerades whatever comes from a container's subnet and does not leave by its bridge; the bridge's \
              own address is in that subnet, so the host, talking to itself by it, sees another address. Ours touches \
              nothing that does not cross an uplink.",
        fits: |d| d.cell.from == "host" && d.cell.to == "host",
    },
    Reason {
        title: "Published ports are there for other networks",
        why: "Without the proxy, Docker translates what a container sends to a published port and then drops it as a \
              packet from network to network. A port is published for everybody (MOBY-INC-006): by us isolation keeps \
              containers from each other's own addresses, not from what the host offers.",
        fits: |d| {
            d.proxy == Proxy::Off
                && published(d)
                && d.docker == "silence"
                && d.bascule == SEES_CLIENT
        },
    },
    Reason {
        title: "Published ports are there for neighbours without ICC",
        why: "The same on one network whose containers may not talk to each other. With its proxy Docker lets them use \
              each other's published ports, and the server sees the gateway, as with us.",
        fits: |d| {
            d.proxy == Proxy::Off
                && published(d)
                && d.docker == "silence"
                && d.bascule == SEES_GATEWAY
                && d.cell.from.starts_with(['d', 'q'])
        },
    },
    Reason {
        title: "Neighbours come from the gateway's address",
        why: "Between containers of one network, Docker without its proxy leaves the client's address as it is, which \
              works while `br_netfilter` shows it the server's answer on the bridge. Ours is told by the gateway's \
              address where to send the answer, whatever the host's settings; with its proxy Docker does the same.",
        fits: |d| published(d) && d.docker == SEES_CLIENT && d.bascule == SEES_GATEWAY,
    },
    Reason {
        title: "The host's own [::1] leads to published ports",
        why: "iptables cannot translate packets to `::1`: they have no way to another interface. We lead the socket, or \
              carry what it says where it is bound to loopback.",
        fits: |d| {
            d.proxy == Proxy::Off
                && d.cell.family == 6
                && d.cell.at == "loopback"
                && d.bascule == SEES_GATEWAY
        },
    },
    Reason {
        title: "Port 53 of a network's own gateway answers questions about names",
        why: "Docker's containers ask for names at 127.0.0.11, and a process of the host may listen on port 53 of their \
              gateway. Ours ask at either: what a container of a network with names sends to port 53 of its own gateway \
              goes to the agent, whoever holds that port on the host (a resolver on every address, as a rule). The \
              matrix asks there with bytes that are no question. At the host's other addresses it is the host's.",
        fits: |d| {
            (d.cell.to.as_str(), d.cell.at.as_str()) == ("host", "the own gateway")
                && d.docker == SEES_CLIENT
                && d.bascule == "wrong bytes"
        },
    },
    Reason {
        title: "Masquerade takes ports of its own range",
        why: "Docker's MASQUERADE keeps the container's source port where that is free, and so takes ports that the host's \
              own connections and servers would have. Ours takes one of 49152-65535, which the host leaves alone. What \
              arrives is the same in all else: addresses, TTL, DSCP and congestion marks, DF, options of IP and TCP, \
              payload, checksum.",
        fits: |d| {
            let ported = d.bascule.replace(", another port", "");
            d.bascule != d.docker && ported == d.docker
        },
    },
    Reason {
        title: "SCTP is masqueraded by address alone",
        why: "A checksum over all of an SCTP packet (CRC32c) covers its ports; the kernel's NAT writes both anew, a program \
              cannot. So ours keeps the port, and of two containers that use one port towards one server the second is \
              dropped (`nat_port_exhausted`). Docker publishes no SCTP port either where the kernel has no sockets of \
              SCTP, as here: its proxy, or what stands for it, cannot listen.",
        fits: |d| {
            d.cell.by == "an SCTP INIT from the port of another container" && d.bascule == "silence"
        },
    },
    Reason {
        title: "What is closed does not show the host in front of it",
        why: "By Docker, the kernel's routing looks at the time to live before iptables is asked whether the packet may pass: \
              who traces the way to another network's container, or to a container from outside, is shown the host. Ours \
              drops first.",
        fits: |d| d.docker.starts_with("told \"time exceeded\"") && d.bascule == "silence",
    },
    Reason {
        title: "Errors about published ports quote the least",
        why: "Where the time of a packet to a published port is over, we send the error ourselves (it is addressed to the \
              host, where the kernel would deliver it), with the IP header and the eight bytes of UDP, or the header of \
              TCP: what RFC 792 asks for, and what traceroute goes by. RFC 4443 asks for as much as fits, for IPv6, which the \
              kernel does.",
        fits: |d| {
            let less = d.bascule.strip_suffix(", quoting less than all");
            published(d) && less.is_some_and(|rest| rest == d.docker)
        },
    },
];
