//! A fuzzer of the walks that needs nothing but the test harness: a mutator guided by what the walks answer, and by the
//! code that they run where the build counts that ([`cover`]). A case is some frames, one after the other, through one
//! world; mutations start from it if it ends in a way that no other case has ended in, or runs code that none has run.
//!
//! Without further words it runs the corpus in `tests/corpus` and some thousand mutations of it, the same ones in every
//! run. `BASCULE_FUZZ_SECONDS` makes it go on for that time with a seed of its own, which it prints, or with that of
//! `BASCULE_FUZZ_SEED`; `BASCULE_FUZZ_KEEP` adds to the corpus what ends in a new way or runs new code;
//! `BASCULE_FUZZ_COVER` demands a build that counts. `cargo xtask fuzz` sets them.

mod case;
mod cover;
mod mutate;

use std::{
    collections::BTreeSet,
    env,
    fmt::Write as _,
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bascule_common::{
    datapath::Kind,
    testing::{
        Ended, FramePacket, Walk, run,
        world::{UPLINK, World, bridge, veth},
    },
};

use self::{
    case::{Case, Step},
    cover::{Cover, Learnt},
    mutate::Random,
};

/// Mutations where no time is given.
const ROUNDS: u32 = 20_000;
/// Cases that a run adds to the corpus for the code that they run, at most.
const KEPT: usize = 64;
/// Cases that mutations start from; those of the corpus stay.
const MOST: usize = 2_000;

/// A way that a step may end in.
type Feature = (u8, u8, bool, usize);

/// A world with everything in it that the walks know.
fn world() -> World {
    World::busy().unbridge(2)
}

/// Runs a case; panics where something is wrong with an end, and answers the ways in which the steps ended.
fn judge(case: &Case) -> Vec<Feature> {
    let world = world();
    case.0.iter().map(|step| judge_step(&world, step)).collect()
}

fn judge_step(world: &World, step: &Step) -> Feature {
    let flows = || world.tables.four.flows.borrow().len() + world.tables.six.flows.borrow().len();
    let before = flows();
    world.tables.endpoint_stats.borrow_mut().clear();
    let interface = match step.walk {
        Walk::FromUplink | Walk::ToUplink => UPLINK,
        Walk::FromContainer | Walk::ToContainer => veth(step.endpoint),
        Walk::ToBridge => bridge(2),
        // Whatever it comes by.
        Walk::FromNames => veth(9),
    };
    let (end, bytes) = if step.bare && interface == UPLINK {
        let mut packet = FramePacket::bare(step.bytes.clone(), interface);
        packet.segment_size = step.segment_size;
        (run(step.walk, &mut packet, &world.tables, &world.kernel), packet.bytes)
    } else {
        let mut packet = FramePacket::new(step.bytes.clone(), interface);
        packet.segment_size = step.segment_size;
        (run(step.walk, &mut packet, &world.tables, &world.kernel), packet.bytes)
    };
    check(world, step, &end, &bytes);
    let kind = match end.outcome {
        Ok(verdict) => verdict.kind as u8,
        Err(reason) => 100 + reason as u8,
    };
    let six = step.bytes.get(12) == Some(&0x86);
    (step.walk as u8, kind, six, flows().saturating_sub(before))
}

/// What holds for every end.
fn check(world: &World, step: &Step, end: &Ended, bytes: &[u8]) {
    let received: u64 = world
        .tables
        .endpoint_stats
        .borrow()
        .values()
        .map(|counters| counters.received.packets)
        .sum();
    let Ok(verdict) = end.outcome else {
        assert_eq!(received, 0, "what is dropped is not delivered");
        return;
    };
    assert_eq!(verdict.clamp, 0, "nothing is left to do");
    match verdict.kind {
        Kind::Pass => {
            assert_eq!(bytes.len(), step.bytes.len(), "what the kernel gets keeps its length");
        }
        Kind::Deliver => {
            assert!((veth(1)..=veth(5)).contains(&verdict.ifindex), "into a container");
            assert_eq!(received, 1, "what is delivered is counted");
        }
        Kind::Leave => {
            assert_eq!(verdict.ifindex, UPLINK);
            assert!(!leaks(bytes), "it leaves with a container's address");
        }
        Kind::Host => {
            assert_eq!(bytes.len(), step.bytes.len(), "what the host gets keeps its length");
            assert_eq!(verdict.ifindex, bridge(2));
        }
        Kind::Send => assert_eq!(verdict.ifindex, veth(3), "to the one container there"),
        Kind::Back => assert!(end.answered.is_some(), "only an answer goes back"),
        undecided => panic!("the walk ends undecided: {undecided:?}"),
    }
}

/// Whether the source of a frame is an address of a masqueraded network.
fn leaks(bytes: &[u8]) -> bool {
    if bytes[12..14] == [0x08, 0x00] {
        bytes[26] == 172 && matches!(bytes[27], 20 | 21)
    } else {
        bytes[22..27] == [0xfd, 0, 1, 0x72, 0] && matches!(bytes[27], 0x20 | 0x21)
    }
}

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus")
}

/// The cases of the corpus, in the order of their names.
fn kept() -> Vec<Case> {
    let mut paths: Vec<PathBuf> = fs::read_dir(corpus())
        .expect("the corpus")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "case"))
        .collect();
    paths.sort();
    paths
        .iter()
        .map(|path| {
            let text = fs::read_to_string(path).expect("a case");
            Case::read(&text).unwrap_or_else(|what| panic!("{}: {what}", path.display()))
        })
        .collect()
}

/// Runs a case; where it panics, says how to keep it.
fn tried(case: &Case, seed: u64) -> Vec<Feature> {
    catch_unwind(AssertUnwindSafe(|| judge(case))).unwrap_or_else(|_| {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("failed.case");
        fs::write(&path, case.to_string()).expect("write the case");
        panic!(
            "a case of seed {seed} failed; it is in {}: put it into {} under a name that says what it \
             shows, and it is run from then on\n{case}",
            path.display(),
            corpus().display()
        )
    })
}

fn keep_case(case: &Case) {
    let name = format!("found-{:016x}.case", mutate::hash(&case.to_string()));
    fs::write(corpus().join(name), case.to_string()).expect("keep a case");
}

/// Some of these cases that run all the edges that all of them run: those that run most of what is left to do.
fn few_for_all(mut found: Vec<(Case, Vec<usize>)>, mut done: BTreeSet<usize>) -> Vec<Case> {
    let mut few = Vec::new();
    while few.len() < KEPT {
        found.iter_mut().for_each(|(_, edges)| edges.retain(|edge| !done.contains(edge)));
        found.retain(|(_, edges)| !edges.is_empty());
        found.sort_by_key(|(_, edges)| edges.len());
        let Some((case, edges)) = found.pop() else { break };
        done.extend(edges);
        few.push(case);
    }
    few
}

#[test]
fn the_corpus_and_what_comes_of_it_end_well() {
    let number = |name| env::var(name).ok().and_then(|value: String| value.parse::<u64>().ok());
    let seconds = number("BASCULE_FUZZ_SECONDS").map(Duration::from_secs);
    let seed = number("BASCULE_FUZZ_SEED").unwrap_or_else(|| match seconds {
        Some(_) => SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |now| now.as_secs()),
        None => 1,
    });
    let keep = env::var_os("BASCULE_FUZZ_KEEP").is_some();
    let mut cases = kept();
    assert!(!cases.is_empty(), "the corpus is empty");
    let mut cover = Cover::new();
    assert!(
        cover.is_instrumented() || env::var_os("BASCULE_FUZZ_COVER").is_none(),
        "this build does not count what it runs: the compiler took the flags of `cargo xtask fuzz` without effect"
    );
    cover.clear();
    let mut seen: BTreeSet<Feature> = cases.iter().flat_map(|case| tried(case, seed)).collect();
    cover.learn();
    let (of_corpus, known, edges) = (cases.len(), seen.len(), cover.edges());
    let mut random = Random::new(seed);
    let since = Instant::now();
    let (mut rounds, mut found) = (0, Vec::new());
    while seconds.map_or(rounds < ROUNDS, |limit| since.elapsed() < limit) {
        rounds += 1;
        let case = mutate::mutated(&cases, &mut random);
        cover.clear();
        let features = tried(&case, seed);
        let ran = if keep { cover.last() } else { Vec::new() };
        let learnt = cover.learn();
        let new = features.iter().filter(|feature| seen.insert(**feature)).count();
        if new > 0 || learnt != Learnt::Nothing {
            if keep && new > 0 {
                keep_case(&case);
            } else if keep && learnt == Learnt::Edge {
                found.push((case.clone(), ran));
            }
            if cases.len() < MOST {
                cases.push(case);
            }
        }
    }
    few_for_all(found, edges.clone()).iter().for_each(keep_case);
    let mut report = String::new();
    write!(
        report,
        "{rounds} cases of seed {seed} in {:?}; {of_corpus} in the corpus end in {known} ways, {} with \
         what was found",
        since.elapsed(),
        seen.len()
    )
    .expect("a string");
    if cover.is_instrumented() {
        write!(
            report,
            ", and run {} edges of the code, {} with it; mutations started from {} cases",
            edges.len(),
            cover.edges().len(),
            cases.len()
        )
        .expect("a string");
    }
    #[expect(clippy::print_stdout, reason = "what a fuzzer did is asked for with --nocapture")]
    {
        println!("{report}");
    }
}
