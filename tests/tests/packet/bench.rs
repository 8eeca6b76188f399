//! What a packet costs, by `BPF_PROG_TEST_RUN`, over a program that does nothing: `cargo xtask bench datapath`.
//!
//! Rounds of all cases are interleaved, with few published ports and with many, because these figures drift with
//! whatever else the machine does; what is printed is the median with its 95 % interval. It fails where a packet costs
//! more the more ports there are.

use std::{
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

use bascule_common::{
    abi::{Address, Endpoint, Flow, FlowKey, Local, Port, Rule, conntrack::Action, service, state},
    testing::{FramePacket, Half, Walk},
    wire::proto,
};
use bascule_tests::frame::Frame;

use super::{
    twin::Twin,
    world::{
        BOTH, C1, C2, Family, HOST, ROUTER, ROUTER_MAC, UPLINK, UPLINK_MAC, WORLD, World, gateway,
        interface, ip, ip6, mac,
    },
};

/// Interleaved rounds of every case.
const ROUNDS: usize = 15;
/// Runs of a case in a round.
const RUNS: u32 = 400_000;
/// Runs of one system call: a translated packet loses a hop with each.
const BATCH: u32 = 200;
/// Published ports that are compared.
const PORTS: [u32; 5] = [10, 100, 1_000, 10_000, 100_000];
/// What a packet may cost more with the most than with the fewest, in percent.
const GROWTH: f64 = 10.0;

/// What is measured: a name, a walk, a frame.
struct Case {
    name: &'static str,
    walk: Walk,
    packet: FramePacket,
    /// Nanoseconds over nothing in each round, for each of [`PORTS`].
    spent: [Vec<f64>; PORTS.len()],
}

impl Case {
    fn new(name: &'static str, walk: Walk, interface: u32, frame: &Frame) -> Self {
        let packet = FramePacket::new(frame.bytes(), interface);
        Self { name, walk, packet, spent: Default::default() }
    }
}

/// Median and 95 % interval of it, by order statistics.
fn spread(mut spent: Vec<f64>) -> (f64, f64, f64) {
    spent.sort_by(f64::total_cmp);
    let count = spent.len() as f64;
    let reach = (1.96 * count.sqrt() / 2.0).ceil() as usize;
    let middle = spent.len() / 2;
    let (low, high) = (middle.saturating_sub(reach), (middle + reach).min(spent.len() - 1));
    (spent[middle], spent[low], spent[high])
}

/// A flow that keeps its endpoints for ever.
fn flow<A: Address>(
    key: &FlowKey<A>,
    to: &FlowKey<A>,
    action: Action,
    next_hop: A,
    rule: u32,
) -> Flow<A> {
    Flow {
        src: to.src,
        dst: to.dst,
        src_port: to.src_port,
        dst_port: to.dst_port,
        action: action as u8,
        mtu: 1500,
        ifindex: if action == Action::Leave { UPLINK } else { interface(1) },
        next_hop: if action == Action::Leave { next_hop } else { A::UNSPECIFIED },
        last_seen: Twin::now(),
        state: state::REPLIED | state::ESTABLISHED,
        dst_mac: UPLINK_MAC,
        src_mac: ROUTER_MAC,
        rule: if key.proto == proto::TCP && action == Action::Deliver { rule } else { 0 },
        ..Flow::default()
    }
}

/// The rules of a family: of the published port, and of the way back.
const RULES: [(Family, u32, u32); 2] = [(Family::Four, 1, 2), (Family::Six, 3, 4)];

/// A world in which a translated frame is translated back when it comes by again: the same frame can be run for
/// ever.
fn world() -> World {
    let mut world = World::new();
    for (family, rule, back) in RULES {
        world = world.publish_on(family, rule, proto::TCP, (8080, 80, 1), 1).with(|tables| {
            let slot = service::slot(proto::TCP, Port::new(80)).expect("TCP has slots");
            let turned = Rule { host_base: 80, container_base: 8080, ..tables.rules[&rule] };
            tables.rules.insert(back, turned);
            tables.ports.insert((family.table(), slot), back);
        });
    }
    world.with(|tables| {
        let flags = &mut tables.endpoints.get_mut(&interface(1)).expect("a container").flags;
        *flags |= Endpoint::ALLOW_SPOOF;
        let local = |family: Family| Local { table: family.table(), flags: 0 };
        tables.four.locals.insert(ip(C1), local(Family::Four));
        tables.six.locals.insert(ip6(C1), local(Family::Six));
        settle(&tables.four, [C1, HOST, WORLD, ROUTER].map(ip), 1);
        settle(&tables.six, [C1, HOST, WORLD, ROUTER].map(ip6), 3);
    })
}

/// Opens the flows of a family.
fn settle<A: Address>(half: &Half<A>, [container, host, outside, router]: [A; 4], rule: u32) {
    let inner = FlowKey {
        src: container,
        dst: outside,
        src_port: Port::new(40_000),
        dst_port: Port::new(443),
        proto: proto::TCP,
        ..FlowKey::default()
    };
    let outer = FlowKey { src: host, src_port: Port::new(50_000), ..inner };
    let asked = FlowKey {
        src: outside,
        dst: host,
        src_port: Port::new(5_555),
        dst_port: Port::new(8_080),
        proto: proto::TCP,
        ..FlowKey::default()
    };
    let served = FlowKey { dst: container, dst_port: Port::new(80), ..asked };
    let mut flows = half.flows.borrow_mut();
    for (key, to, action) in [
        (inner, outer, Action::Leave),
        (outer, inner, Action::Leave),
        (asked, served, Action::Deliver),
        (served, asked, Action::Deliver),
    ] {
        flows.insert(key, flow(&key, &to, action, router, rule));
        // A flow whose answers have no entry would be opened anew.
        let mut answers = flow(&to.reversed(), &key.reversed(), Action::Deliver, router, 0);
        answers.state |= state::IS_REPLY;
        flows.insert(to.reversed(), answers);
    }
}

fn cases() -> Vec<Case> {
    let names = [
        ["same network", "masqueraded", "published", "the host's own"],
        ["IPv6 same network", "IPv6 masqueraded", "IPv6 published", "IPv6 the host's own"],
    ];
    let of = |(family, [near_name, out_name, published_name, host_name]): (
        Family,
        [&'static str; 4],
    )| {
        let at = |address, port| family.at(address, port);
        let near = Frame::udp(&at(C1, 1000), &at(C2, 2000)).macs(mac(C1), mac(C2));
        let out = Frame::tcp(&at(C1, 40_000), &at(WORLD, 443)).ttl(255);
        let out = out.macs(mac(C1), mac(&gateway(C1)));
        let published = Frame::tcp(&at(WORLD, 5555), &at(HOST, 8080)).ttl(255);
        let host = Frame::tcp(&at(WORLD, 5555), &at(HOST, 22));
        let uplink = |frame: Frame| frame.macs(ROUTER_MAC, UPLINK_MAC);
        [
            Case::new(near_name, Walk::FromContainer, interface(1), &near),
            Case::new(out_name, Walk::FromContainer, interface(1), &out),
            Case::new(published_name, Walk::FromUplink, UPLINK, &uplink(published)),
            Case::new(host_name, Walk::FromUplink, UPLINK, &uplink(host)),
        ]
    };
    BOTH.into_iter().zip(names).flat_map(of).collect()
}

/// By how many percent the second costs exceed the first, taken round by round: median and 95 % interval.
fn growth(few: &[f64], many: &[f64]) -> (f64, f64, f64) {
    let rounds = few.iter().zip(many);
    spread(rounds.map(|(few, many)| (many / few - 1.0) * 100.0).collect())
}

/// Whether a growth is as good as none: as everywhere, a target is met when the interval reaches it.
fn is_flat((_, low, _): (f64, f64, f64)) -> bool {
    low < GROWTH
}

/// Publishes as many ports in each family, each by a rule of its own, and no more; the cases' own stay.
fn publish(twin: &mut Twin, ports: u32) {
    let most = PORTS.into_iter().max().unwrap_or(0);
    for (family, own, _) in RULES {
        let first = 16 + if family == Family::Four { 0 } else { most };
        for port in (0..most).filter(|port| ![22, 80, 8080].contains(port)) {
            // The second half of the table is UDP's; 80 and 8080 have their rules, 22 has none.
            let rule = Rule { host_base: port as u16, count: 1, ..twin.tables.rules[&own] };
            let index = if port < ports { first + port } else { 0 };
            twin.kernel.publish(family.table(), port, index, rule);
        }
    }
}

/// Nanoseconds a run of a case.
fn cost(twin: &mut Twin, case: &Case) -> f64 {
    let mut total = 0;
    for _ in 0..RUNS / BATCH {
        let (code, spent) = twin.kernel.time(case.walk, &case.packet, BATCH);
        assert_ne!(code, 2, "{}: dropped", case.name);
        total += spent;
    }
    total as f64 / f64::from(RUNS / BATCH)
}

/// Every round of every case, for who makes pages of it.
fn figures(cases: &[Case]) -> serde_json::Value {
    let of = |case: &Case| {
        let (walk, rounds) = (case.name, PORTS.into_iter().zip(case.spent.clone()));
        let one = |(ports, ns)| serde_json::json!({"walk": walk, "ports": ports, "ns": ns});
        rounds.map(one).collect::<Vec<_>>()
    };
    cases.iter().flat_map(of).collect()
}

#[test]
#[ignore = "a measurement: cargo xtask bench datapath"]
#[expect(clippy::print_stdout, reason = "the figures are what it is run for")]
fn datapath() {
    let mut twin = Twin::new(world());
    let nothing = nothing().expect("load a program that does nothing");
    let mut cases = cases();
    let probe = cases[0].packet.bytes.clone();
    let mut empty = Vec::new();
    for _ in 0..ROUNDS {
        for (at, ports) in PORTS.into_iter().enumerate() {
            publish(&mut twin, ports);
            let base = run_nothing(&nothing, &probe).expect("run a program that does nothing");
            empty.push(base);
            for case in &mut cases {
                let spent = cost(&mut twin, case) - base;
                case.spent[at].push(spent);
            }
        }
    }
    let (base, low, high) = spread(empty);
    println!("nothing: {base:.1} ns [{low:.1}, {high:.1}]; over it, with published ports:");
    let mut grown = Vec::new();
    for case in &cases {
        let figures = PORTS.into_iter().zip(&case.spent).map(|(ports, spent)| {
            let (median, low, high) = spread(spent.clone());
            format!("{ports}: {median:.1} ns [{low:.1}, {high:.1}]")
        });
        let figures: Vec<String> = figures.collect();
        let (median, low, high) = growth(&case.spent[0], &case.spent[PORTS.len() - 1]);
        println!(
            "  {:<20} {}; from first to last {median:+.1} % [{low:+.1}, {high:+.1}]",
            case.name,
            figures.join(", ")
        );
        if !is_flat((median, low, high)) {
            grown.push(case.name);
        }
    }
    if let Some(file) = std::env::var_os("BASCULE_BENCH_FILE") {
        let written = std::fs::write(&file, figures(&cases).to_string());
        written.unwrap_or_else(|error| panic!("cannot write {}: {error}", file.display()));
    }
    assert!(
        grown.is_empty(),
        "more than {GROWTH} % dearer with {} ports: {grown:?}",
        PORTS[PORTS.len() - 1]
    );
}

#[test]
fn n8_growth_with_the_number_of_ports_is_seen() {
    let few = |offset: f64| -> Vec<f64> {
        (0..ROUNDS).map(|n| 40.0 + offset + n as f64 / 10.0).collect()
    };
    assert!(is_flat(growth(&few(0.0), &few(0.0))));
    assert!(is_flat(growth(&few(0.0), &few(3.0))));
    assert!(!is_flat(growth(&few(0.0), &few(6.0))));
    // One bad round is noise.
    let mut noisy = few(0.0);
    noisy[3] = 400.0;
    assert!(is_flat(growth(&few(0.0), &noisy)));
}

/// Loads `return TC_ACT_UNSPEC`.
fn nothing() -> io::Result<OwnedFd> {
    const PROG_LOAD: i64 = 5;
    const SCHED_CLS: u32 = 3;
    // mov r0, -1; exit
    let code: [u64; 2] = [0xffff_ffff_0000_00b7, 0x95];
    let license = c"Dual MIT/GPL";
    let mut attr = [0_u64; 16];
    attr[0] = u64::from(SCHED_CLS) | (code.len() as u64) << 32;
    attr[1] = code.as_ptr() as u64;
    attr[2] = license.as_ptr() as u64;
    // SAFETY: the attribute outlives the call, as does what it points to; a descriptor that nobody else has
    // is taken over.
    unsafe { Ok(OwnedFd::from_raw_fd(bpf(PROG_LOAD, &mut attr)?)) }
}

/// Nanoseconds a run, in system calls of as many as the cases have.
fn run_nothing(program: &OwnedFd, frame: &[u8]) -> io::Result<f64> {
    const PROG_TEST_RUN: i64 = 10;
    let mut total = 0;
    for _ in 0..RUNS / BATCH {
        let mut attr = [0_u64; 16];
        attr[0] = program.as_raw_fd().cast_unsigned().into();
        attr[1] = frame.len() as u64;
        attr[2] = frame.as_ptr() as u64;
        attr[4] = u64::from(BATCH);
        // SAFETY: the attribute outlives the call, as does the frame.
        unsafe { bpf(PROG_TEST_RUN, &mut attr)? };
        total += attr[4] >> 32;
    }
    Ok(total as f64 / f64::from(RUNS / BATCH))
}

/// # Safety
/// What the attribute points to must be alive.
unsafe fn bpf(command: i64, attr: &mut [u64; 16]) -> io::Result<i32> {
    // SAFETY: the caller's; the length is the attribute's.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attr.as_mut_ptr(), 128) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}
