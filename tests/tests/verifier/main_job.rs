//! What Bascule is for, on the oldest kernel: containers reach whom they should and nobody else, ports
//! are published, the outside is reached, and all of it outlives the agent. There, programs are
//! attached as clsact filters.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, TcpStream, UdpSocket},
    time::{Duration, Instant},
};

use bascule_tests::{
    Agent, Container, Netns, Topology,
    process::{self, Running},
    topology::{HOST, OUTSIDE, UPLINK},
    traffic::{self, Conversation, TcpServer, UdpServer},
    vm, wait,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// How long the guest may take on a loaded machine; alone it needs a sixth of it.
const LIMIT: Duration = Duration::from_secs(290);

/// Tells what has been shown, and how long it took.
struct Steps(Instant);

impl Steps {
    fn done(&mut self, what: &str) {
        vm::tell(&format!("{:>5.1} s  {what}", self.0.elapsed().as_secs_f64()));
        self.0 = Instant::now();
    }
}

/// Two containers that belong together, one of them published, and one that does not belong to them.
struct World {
    net: Topology,
    agent: Agent,
    web: Container,
    client: Container,
    stranger: Container,
}

impl World {
    fn new(steps: &mut Steps) -> Self {
        let net = Topology::new();
        steps.done("host, router, outside and neighbour");
        let agent = Agent::start(&net.host);
        steps.done("the agent answers");
        agent.network("app", "");
        agent.network("other", "-o bascule.l2=bpf");
        let web = agent.container("web", "app", "-p 8080:80 -p 5353:53/udp");
        let client = agent.container("client", "app", "");
        let stranger = agent.container("stranger", "other", "");
        steps.done("two networks, three containers");
        Self { net, agent, web, client, stranger }
    }
}

/// Programs that run on a side of an interface, as `tc` shows them.
fn filters(ns: &Netns, interface: &str, side: &str) -> String {
    ns.try_sh(&format!("tc filter show dev {interface} {side}")).stdout
}

fn attached_by_clsact(world: &World) {
    let host = &world.net.host;
    let ports: Vec<String> =
        host.interfaces().into_iter().filter(|name| name.starts_with("bsc")).collect();
    assert!(ports.len() >= 3, "{ports:?}");
    for port in ports.iter().filter(|port| port.as_str() != "bascule0") {
        assert!(filters(host, port, "ingress").contains("from_container"), "{port}");
        assert!(filters(host, port, "egress").contains("to_container"), "{port}");
    }
    assert!(filters(host, UPLINK, "ingress").contains("from_uplink"));
    assert!(filters(host, UPLINK, "egress").contains("to_uplink"));
}

/// The stranger's network has no bridge: its neighbours and the host are found and reached all the same.
fn unbridged(world: &World) {
    let World { net, agent, stranger, .. } = world;
    let id = agent.inspect("network", "other")["Id"].as_str().expect("an id").to_owned();
    let device = format!("br-{}", &id[..12]);
    assert!(filters(&net.host, &device, "egress").contains("to_bridge"));
    assert_eq!(net.host.sh(&format!("ip link show master {device}")), "");
    let mate = agent.container("mate", "other", "");
    traffic::answers(&mate.ns, stranger.address());
    traffic::answers(&net.host, mate.address());
    let _server = TcpServer::start(&mate.ns, 80);
    traffic::reaches(&net.host, SocketAddrV4::new(mate.address(), 80));
    let (gateway, _) = net.host.addresses(&device)[0];
    traffic::answers(&mate.ns, gateway);
}

fn policy(world: &World) {
    let World { web, client, stranger, .. } = world;
    let _server = TcpServer::start(&web.ns, 80);
    traffic::answers(&client.ns, web.address());
    traffic::answers(&web.ns, client.address());
    let seen_as = traffic::reaches(&client.ns, SocketAddrV4::new(web.address(), 80));
    assert_eq!(*seen_as.ip(), client.address());
    traffic::does_not_answer(&stranger.ns, web.address());
    traffic::does_not_answer(&client.ns, stranger.address());
    traffic::unreachable(&stranger.ns, SocketAddrV4::new(web.address(), 80));
}

fn publishing(world: &World) {
    let World { net, web, client, .. } = world;
    let _tcp = TcpServer::start(&web.ns, 80);
    let _udp = UdpServer::start(&web.ns, 53);
    let published = SocketAddrV4::new(HOST, 8080);
    assert_eq!(*traffic::reaches(&net.outside, published).ip(), OUTSIDE);
    let seen_as = traffic::exchange(&net.outside, SocketAddrV4::new(HOST, 5353), 1000);
    assert_eq!(*seen_as.ip(), OUTSIDE);
    traffic::reaches(&net.neighbour, published);
    traffic::reaches(&client.ns, published);
}

/// Processes of the host: led by cgroup programs, or served by the proxy.
fn host_processes(world: &World) {
    let World { net, web, .. } = world;
    let _tcp = TcpServer::start(&web.ns, 80);
    let _udp = UdpServer::start(&web.ns, 53);
    for ip in [Ipv4Addr::LOCALHOST, HOST] {
        let conversation =
            Conversation::open(&net.host, SocketAddrV4::new(ip, 8080)).expect("a connection");
        let peer = conversation.stream().peer_addr().expect("a peer");
        assert_eq!(peer, SocketAddr::from((ip, 8080)));
    }
    for own in [Ipv4Addr::UNSPECIFIED, Ipv4Addr::LOCALHOST] {
        let socket = net.host.run(|| UdpSocket::bind((own, 0))).expect("a socket");
        socket.set_read_timeout(Some(Duration::from_secs(5))).expect("a time-out");
        socket.send_to(b"hello", (Ipv4Addr::LOCALHOST, 5353)).expect("send");
        let (_, from) = socket.recv_from(&mut [0; 64]).expect("an answer");
        assert_eq!(from, SocketAddr::from((Ipv4Addr::LOCALHOST, 5353)), "bound to {own}");
    }
    let mut stream =
        net.host.run(|| TcpStream::connect((Ipv6Addr::LOCALHOST, 8080))).expect("the proxy");
    stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a time-out");
    stream.write_all(b"hello\n").expect("send");
    assert!(stream.read(&mut [0; 64]).expect("an answer") > 0);
}

fn masquerade(world: &World) {
    let World { net, client, stranger, .. } = world;
    let _tcp = TcpServer::start(&net.outside, 80);
    let _udp = UdpServer::start(&net.outside, 53);
    for container in [client, stranger] {
        let seen_as = traffic::reaches(&container.ns, SocketAddrV4::new(OUTSIDE, 80));
        assert_eq!(*seen_as.ip(), HOST);
        let seen_as = traffic::exchange(&container.ns, SocketAddrV4::new(OUTSIDE, 53), 1000);
        assert_eq!(*seen_as.ip(), HOST);
        traffic::answers(&container.ns, OUTSIDE);
    }
}

/// An interface of a VLAN is an uplink like any other. Here, because this kernel has them.
fn vlan(world: &World) {
    let World { net, web, client, .. } = world;
    let (own, far) = (Ipv4Addr::new(10, 99, 7, 1), Ipv4Addr::new(10, 99, 7, 2));
    for (ns, line, address) in [(&net.host, UPLINK, own), (&net.neighbour, "eth0", far)] {
        ns.sh(&format!("ip link add link {line} name {line}.7 type vlan id 7"));
        ns.sh(&format!("ip addr add {address}/24 dev {line}.7"));
        ns.sh(&format!("ip link set {line}.7 up"));
    }
    let (_inside, _far) = (TcpServer::start(&web.ns, 80), TcpServer::start(&net.neighbour, 80));
    let _udp = UdpServer::start(&net.neighbour, 53);
    wait::wait_until("the published port answers there", wait::START, || {
        let server = SocketAddrV4::new(own, 8080);
        Conversation::open(&net.neighbour, server).is_ok_and(|open| *open.seen_as.ip() == far)
    });
    assert_eq!(*traffic::reaches(&client.ns, SocketAddrV4::new(far, 80)).ip(), own);
    let seen_as = traffic::exchange(&client.ns, SocketAddrV4::new(far, 53), 4000);
    assert_eq!(*seen_as.ip(), own);
    traffic::answers(&client.ns, far);
    net.host.sh(&format!("ip link del {UPLINK}.7"));
}

/// Who is on the deny list gets in nowhere, not by a VLAN's tag either, and nobody else is affected.
fn deny(world: &World) {
    let World { net, agent, web, .. } = world;
    let _server = TcpServer::start(&web.ns, 80);
    let published = SocketAddrV4::new(HOST, 8080);
    traffic::reaches(&net.neighbour, published);
    let neighbour = net.neighbour.addresses("eth0")[0].0;
    agent.ok(&format!("policy deny add {neighbour} 2001:db8::/32"));
    let status = agent.ok("status");
    assert!(status.contains("deny list in native XDP"), "{status}");
    traffic::unreachable(&net.neighbour, published);
    traffic::does_not_answer(&net.neighbour, HOST);
    traffic::reaches(&net.outside, published);
    agent.ok(&format!("policy deny rm {neighbour} 2001:db8::/32"));
    traffic::reaches(&net.neighbour, published);
}

/// Ten pings a second, for as long as it takes.
struct Pinging(Running);

impl Pinging {
    fn start(from: &Netns, to: Ipv4Addr) -> Self {
        let mut command = from.command("ping");
        Self(process::start(command.args(["-n", "-i", "0.1"]).arg(to.to_string())))
    }

    /// Ends them, and demands that none was lost. The last one may still be under way.
    fn finish(self) {
        let pid = Pid::from_raw(self.0.child.id().cast_signed());
        kill(pid, Signal::SIGINT).expect("a ping that runs");
        let text = self.0.finish("ping", process::LIMIT).stdout;
        let seen: Vec<u32> = text
            .lines()
            .filter_map(|line| line.split("icmp_seq=").nth(1)?.split(' ').next()?.parse().ok())
            .collect();
        let sent =
            text.lines().find_map(|line| line.split_once(" packets transmitted")?.0.parse().ok());
        let sent: u32 = sent.expect("ping tells what it sent");
        assert!(sent > 10, "{text}");
        assert!(seen.iter().copied().eq(1..=sent) || seen.iter().copied().eq(1..sent), "{text}");
    }
}

/// Kills the agent and starts it again, under pings to another container and to the outside, and with
/// connections open in both directions.
fn restart(world: &mut World) {
    let _web = TcpServer::start(&world.web.ns, 80);
    let _outside = TcpServer::start(&world.net.outside, 80);
    let mut inward = Conversation::open(&world.net.outside, SocketAddrV4::new(HOST, 8080))
        .expect("a connection to the published port");
    let mut outward = Conversation::open(&world.client.ns, SocketAddrV4::new(OUTSIDE, 80))
        .expect("a connection to the outside");
    let pings = [world.web.address(), OUTSIDE].map(|to| Pinging::start(&world.client.ns, to));
    world.agent.kill9();
    inward.say().expect("the published port is served without the agent");
    outward.say().expect("the outside is reached without the agent");
    world.agent.restart();
    inward.say().expect("the published port is served after the restart");
    outward.say().expect("the outside is reached after the restart");
    for ping in pings {
        ping.finish();
    }
    attached_by_clsact(world);
}

fn clean_up(world: &mut World) {
    assert_eq!(world.agent.stop(), 0, "{}", world.agent.log());
    let out = world.agent.cleanup(&[]);
    assert!(out.ok(), "{out:?}");
    let host = &world.net.host;
    assert_eq!(host.interfaces(), ["lo", UPLINK]);
    for side in ["ingress", "egress"] {
        assert_eq!(filters(host, UPLINK, side), "");
    }
    assert!(world.agent.places.pins().is_empty(), "{:?}", world.agent.places.pins());
    let sandboxes = std::fs::read_dir(world.agent.places.run().join("netns"));
    assert_eq!(sandboxes.map_or(0, Iterator::count), 0, "sandboxes are left");
    assert_eq!(host.sysctl("net/ipv4/ip_forward"), "0");
    assert_eq!(host.sysctl("net/ipv4/ip_local_reserved_ports"), "");
}

/// Not a test: what the next one runs in a guest.
#[test]
#[ignore = "runs in the guest of `the_main_job_is_done_on_the_oldest_kernel`"]
fn in_a_guest() {
    if !vm::in_guest() {
        return;
    }
    let mut steps = Steps(Instant::now());
    let mut world = World::new(&mut steps);
    attached_by_clsact(&world);
    steps.done("programs are attached as clsact filters");
    policy(&world);
    steps.done("neighbours reach each other, strangers do not");
    unbridged(&world);
    steps.done("a network without a bridge");
    publishing(&world);
    steps.done("published ports answer outside, neighbour and container");
    host_processes(&world);
    steps.done("published ports answer processes of the host");
    masquerade(&world);
    steps.done("the outside sees the host's address");
    vlan(&world);
    steps.done("an interface of a VLAN is an uplink");
    deny(&world);
    steps.done("the deny list runs in XDP");
    restart(&mut world);
    steps.done("the agent was killed and came back; no ping and no connection was lost");
    clean_up(&mut world);
    steps.done("a clean-up left nothing");
}

#[test]
fn the_main_job_is_done_on_the_oldest_kernel() {
    let guest = vm::run("main_job::in_a_guest", LIMIT);
    let mut text =
        format!("\nthe main job on Linux {} in {:.1} s:\n", vm::OLDEST, guest.took.as_secs_f64());
    for line in &guest.told {
        text += &format!("  {line}\n");
    }
    std::io::stdout().lock().write_all(text.as_bytes()).ok();
    assert_eq!(guest.told.len(), 13, "steps of the guest's test");
}
