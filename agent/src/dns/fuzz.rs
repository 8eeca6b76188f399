//! A fuzzer of what containers and other servers send: a mutator that starts from messages as they are, and keeps what
//! ends in a way that nothing has ended in. Without further words it makes some thousand messages, the same ones in
//! every run; `BASCULE_FUZZ_SECONDS` makes it go on for that time with a seed of its own, which it prints, or with that
//! of `BASCULE_FUZZ_SEED`.

use std::{
    collections::BTreeSet,
    env,
    net::{IpAddr, SocketAddr},
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use hickory_proto::{
    op::{Message, Query, ResponseCode},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{A, AAAA, PTR},
    },
};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

use super::{
    answer::{self, HEADER, Judged, Local, Manner},
    cache::{Cache, Key},
    tests::question,
    wire,
};

/// Messages where no time is given.
const ROUNDS: u32 = 20_000;
/// Messages that mutations start from.
const MOST: usize = 1_000;
/// A datagram that is longer is none.
const LONGEST: usize = 4096;

/// A way that a message may end in.
type Feature = (u8, u16, usize, bool, bool, usize);

fn message(name: &str, kind: RecordType, edns: Option<u16>) -> Vec<u8> {
    question(name, kind, edns).to_vec().expect("a message")
}

/// Questions of every kind, and answers to them.
fn corpus() -> Vec<Vec<u8>> {
    let kinds = [
        RecordType::A,
        RecordType::AAAA,
        RecordType::PTR,
        RecordType::SRV,
        RecordType::ANY,
        RecordType::AXFR,
        RecordType::HTTPS,
    ];
    let names =
        ["c1.", "c1.net.", "_http._tcp.c1.", "7.1.18.172.in-addr.arpa.", "www.example.com."];
    let mut all = Vec::new();
    for name in names {
        for kind in kinds {
            for edns in [None, Some(0), Some(1232), Some(65_535)] {
                all.push(message(name, kind, edns));
            }
        }
    }
    let name = || Name::from_ascii("www.example.com.").expect("a name");
    let data = [
        RData::A(A::new(192, 0, 2, 7)),
        RData::AAAA(AAAA::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7)),
        RData::PTR(PTR(name())),
    ];
    for count in [1, 3, 40] {
        let mut answer = Message::response(7, hickory_proto::op::OpCode::Query);
        answer.add_query(Query::query(name(), RecordType::A));
        for at in 0..count {
            answer.answers.push(Record::from_rdata(name(), 300, data[at % 3].clone()));
        }
        all.push(answer.to_vec().expect("a message"));
    }
    all
}

fn mutate(from: &[u8], other: &[u8], random: &mut StdRng) -> Vec<u8> {
    let mut bytes = from.to_vec();
    for _ in 0..random.random_range(1..6) {
        let at = random.random_range(0..=bytes.len());
        match random.random_range(0..9) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, random.random()),
            // What begins a label, a pointer, or neither.
            2 => bytes.insert(at, [0, 63, 64, 128, 192, 255][random.random_range(0..6)]),
            3 => bytes.extend_from_slice(other.get(at..).unwrap_or_default()),
            4 => bytes.splice(at.., other.iter().copied().skip(at)).for_each(drop),
            5 => {
                // The counts of the header.
                if let Some(count) = bytes.get_mut(random.random_range(2..HEADER)) {
                    *count = [0, 1, 2, 255][random.random_range(0..4)];
                }
            }
            6 => {
                let piece: Vec<_> = bytes.iter().copied().skip(at).take(32).collect();
                bytes.splice(at..at, piece).for_each(drop);
            }
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << random.random_range(0..8);
                }
            }
        }
    }
    bytes.truncate(LONGEST);
    bytes
}

/// What is done with a message that came, from whomever; panics where something is wrong with it.
fn judge(bytes: &[u8], cache: &Cache) -> Feature {
    let known = |name: &Query| match name.query_type {
        RecordType::PTR => Local::Names(vec!["c1.net".into(), "c1".into(), "x".repeat(70)]),
        RecordType::SRV => Local::Unknown,
        _ => Local::Addresses((0..60).map(|n| IpAddr::from([10, 0, 0, n])).collect()),
    };
    let longest = Some(usize::from(u16::MAX));
    for longest in [None, longest] {
        let manner = Manner { ttl: 5, longest, turn: bytes.len() };
        let judged = answer::judge_by(bytes, manner, known);
        if let Judged::Answer { bytes: answer, .. } = &judged {
            assert_eq!(answer[..2], bytes[..2], "its number");
            assert_ne!(answer[2] & 0x80, 0, "an answer");
            assert!(longest.is_some() || answer.len() <= 1232, "{} bytes", answer.len());
            Message::from_vec(answer).expect("it can be read");
        }
    }
    let judged =
        answer::judge_by(bytes, Manner { ttl: 0, longest: None, turn: 0 }, |_| Local::Unknown);
    let relayed = relay(bytes, cache);
    match judged {
        Judged::Answer { code, bytes: answer, .. } => {
            (1, code.into(), answer.len() / 64, false, false, relayed)
        }
        Judged::Forward => {
            let key = wire::comparable(bytes).is_some();
            (2, 0, bytes.len() / 64, key, wire::question(bytes).is_some(), relayed)
        }
        Judged::Ignore => (3, 0, 0, false, false, relayed),
    }
}

/// The way of a question to others, and of the same bytes as an answer of theirs.
fn relay(bytes: &[u8], cache: &Cache) -> usize {
    let own = wire::for_another(bytes);
    assert!(own.len() <= bytes.len());
    let servers = [SocketAddr::from(([192, 0, 2, 1], 53))];
    let mut answer = bytes.to_vec();
    wire::answer_to(&mut answer, &own);
    assert_eq!(answer.len(), bytes.len());
    let answers = wire::answers(&answer, &own);
    if let Some(key) = Key::of(&servers, &own) {
        cache.put(key.clone(), &answer);
        if let Some(found) = cache.get(&key, &own) {
            assert_eq!(found.len(), answer.len());
        }
    }
    let longest = answer::longest(bytes);
    assert!((512..=4096).contains(&longest));
    for longest in [HEADER, 512, longest] {
        let mut cut = answer.clone();
        if cut.len() >= HEADER {
            wire::fit(&mut cut, longest);
            assert!(cut.len() <= answer.len());
        }
    }
    if let Some(refusal) = answer::without(bytes, ResponseCode::ServFail) {
        assert_eq!(refusal[..2], bytes[..2]);
    }
    let lifetime = wire::lifetime(bytes);
    usize::from(answers) | usize::from(lifetime.is_some()) << 1
}

fn run(seed: u64, time: Option<Duration>) {
    let (begin, mut random) = (Instant::now(), StdRng::seed_from_u64(seed));
    let (mut pool, mut seen, cache) = (corpus(), BTreeSet::new(), Cache::default());
    let mut rounds = 0_u32;
    let goes_on = |rounds| match time {
        Some(time) => begin.elapsed() < time,
        None => rounds < ROUNDS,
    };
    while goes_on(rounds) {
        let pick = |random: &mut StdRng| random.random_range(0..pool.len());
        let (from, other) = (pick(&mut random), pick(&mut random));
        let bytes = if (rounds as usize) < pool.len() {
            pool[rounds as usize].clone()
        } else {
            mutate(&pool[from], &pool[other], &mut random)
        };
        rounds += 1;
        match catch_unwind(AssertUnwindSafe(|| judge(&bytes, &cache))) {
            Ok(feature) => {
                if seen.insert(feature) && pool.len() < MOST {
                    pool.push(bytes);
                }
            }
            Err(_) => panic!("seed {seed}, round {rounds}: {bytes:02x?}"),
        }
    }
    assert!(seen.len() > 20, "{} ways to end in", seen.len());
}

#[test]
#[expect(clippy::print_stdout, reason = "a seed is for whoever runs it again")]
fn moby_dns_022_no_message_is_too_strange() {
    let number = |name: &str| env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let time = number("BASCULE_FUZZ_SECONDS").map(Duration::from_secs);
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |now| now.as_secs());
    let seed = number("BASCULE_FUZZ_SEED").or(time.map(|_| clock)).unwrap_or(1);
    println!("messages of seed {seed}");
    run(seed, time);
}
