//! Every program of the object loads, by the agent's own loader, within what was agreed.

use std::{collections::BTreeMap, fmt::Write as _, io::Write as _, path::PathBuf, time::Duration};

use bascule::kernel::bpf::{Features, Host, Pins, Sizes, Wanted, load};
use bascule_tests::{places::Places, vm};

/// How long the oldest kernel may take to boot and to load everything, on a loaded machine.
const LIMIT: Duration = Duration::from_secs(120);
/// Set to write down what is measured as the new budget.
const RECORD: &str = "BASCULE_TEST_RECORD";
/// Growth that passes, as in `cargo xtask budget`.
const HEADROOM_PERCENT: u32 = 5;

const HEADER: &str = "\
# Instructions that the verifier of Linux 6.1 walks, as measured by
# `BASCULE_TEST_RECORD=1 cargo xtask test verifier`. Growth past 5 % fails. budget.toml has the running kernel's.

";

/// Loads every program, and gives the instructions that the verifier walked.
fn verified() -> BTreeMap<String, u32> {
    bascule_tests::require_root();
    let features = Features::probe().expect("probe");
    features.check().expect("a supported kernel");
    assert!(features.btf && features.cgroup_bind(), "{features:?}");
    let places = Places::new();
    let pins = Pins::open(&places.bpffs()).expect("pins");
    let sizes = Sizes::new(Host { memory: 1 << 30, cpus: 2 }, Wanted::default());
    let loaded = load(&pins, &sizes).expect("every program loads");
    let programs = loaded.report.verified_instructions;
    programs
        .into_iter()
        .map(|(name, count)| (name, count.expect("kernels since 5.16 tell")))
        .collect()
}

/// What was agreed for the oldest kernel.
fn budget_file() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../xtask/budget-6.1.toml")
}

fn budget() -> BTreeMap<String, u32> {
    let path = budget_file();
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
    toml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn record(oldest: &BTreeMap<String, u32>) {
    let text = format!("{HEADER}{}", toml::to_string(oldest).expect("numbers"));
    std::fs::write(budget_file(), text).expect("write down the budget");
}

/// Not a test: what the next one runs in a guest.
#[test]
#[ignore = "runs in the guest of `every_program_loads_here_and_on_the_oldest_kernel`"]
fn in_a_guest() {
    if !vm::in_guest() {
        return;
    }
    for (name, count) in verified() {
        vm::tell(&format!("{name} {count}"));
    }
}

#[test]
fn every_program_loads_here_and_on_the_oldest_kernel() {
    let here = verified();
    let guest = vm::run("programs::in_a_guest", LIMIT);
    let oldest: BTreeMap<String, u32> = guest
        .told
        .iter()
        .map(|line| {
            let (name, count) = line.split_once(' ').expect("a name and a number");
            (name.to_owned(), count.parse().expect("a number"))
        })
        .collect();
    if std::env::var_os(RECORD).is_some() {
        record(&oldest);
    }
    let budget = budget();
    let mut table = format!(
        "\n{:<16} {:>12} {:>12} {:>12}   (verified instructions; the guest took {:.1} s)\n",
        "program",
        "here",
        vm::OLDEST,
        "budget",
        guest.took.as_secs_f64()
    );
    for (name, count) in &here {
        let show = |number: Option<&u32>| number.map_or_else(|| "-".to_owned(), u32::to_string);
        let (old, agreed) = (show(oldest.get(name)), show(budget.get(name)));
        writeln!(table, "{name:<16} {count:>12} {old:>12} {agreed:>12}").expect("a string");
    }
    // Figures are wanted of a test that passes, too, and the test harness hides its prints.
    std::io::stdout().lock().write_all(table.as_bytes()).ok();

    let names = |of: &BTreeMap<String, u32>| of.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&oldest), names(&here), "programs on {} and here", vm::OLDEST);
    assert_eq!(names(&budget), names(&here), "programs in {}", budget_file().display());
    for (name, count) in &oldest {
        let agreed = budget[name];
        assert!(
            u64::from(*count) * 100 <= u64::from(agreed) * u64::from(100 + HEADROOM_PERCENT),
            "{name}: {count} instructions verified on {}, budget {agreed}. If the growth is worth \
             it, `{RECORD}=1 cargo xtask test verifier` writes it down",
            vm::OLDEST
        );
    }
}
