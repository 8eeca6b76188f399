//! Pins: made, reused, compared, swept, and gone after clean-up.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use aya::maps::Array;
use bascule::kernel::bpf::{BpfError, Fate, Pins, Sizes, Table, cleanup, load, load_object};
use bascule_common::abi::{
    Flow4, FlowKey4, Network,
    names::{
        map,
        program::{FROM_CONTAINER, TO_CONTAINER},
    },
};
use bascule_tests::places::Places;

use crate::{Plane, sizes};

#[test]
fn a_first_load_pins_every_map_and_a_second_keeps_them() {
    let mut plane = Plane::new();
    for name in map::ALL {
        assert!(plane.pins.map(name).exists(), "{name} is not pinned");
        assert_eq!(plane.loaded.report.maps[name], Fate::Created, "{name}");
    }
    assert!(plane.loaded.report.memory.total > 1 << 20, "{}", plane.loaded.report.memory);
    let key = FlowKey4 { proto: 6, ..Default::default() };
    plane.loaded.tables.flows4.put(&key, &Flow4 { rule: 7, ..Default::default() }).expect("put");

    plane.reload();
    for name in map::ALL {
        assert_eq!(plane.loaded.report.maps[name], Fate::Kept, "{name}");
    }
    assert_eq!(plane.loaded.tables.flows4.count().expect("count"), 1, "the flow is lost");
}

#[test]
fn a_pin_of_another_layout_is_replaced_and_said_so() {
    let mut plane = Plane::new();
    let path = plane.pins.map(map::NETWORKS);
    std::fs::remove_file(&path).expect("unpin");
    Array::<_, u64>::create(16, 0).expect("create").pin(&path).expect("pin");

    plane.reload();
    let Fate::Replaced { found, wanted } = &plane.loaded.report.maps[map::NETWORKS] else {
        panic!("not replaced: {:?}", plane.loaded.report.maps[map::NETWORKS]);
    };
    assert!(found.contains("value 8 B, 16 entries"), "{found}");
    let size = size_of::<Network>();
    assert!(wanted.contains(&format!("value {size} B, 4096 entries")), "{wanted}");
    let network = Network { flags: Network::PRESENT, ..Default::default() };
    plane.loaded.tables.networks.put(&4_095, &network).expect("the new map is in force");
}

#[test]
fn a_sized_map_keeps_its_size_and_contents() {
    let mut plane = Plane::new();
    let entries = sizes().flows;
    plane.loaded.tables.flows4.put(&FlowKey4::default(), &Flow4::default()).expect("put");
    let larger = Sizes { flows: entries * 4, ..sizes() };
    plane.loaded = load(&plane.pins, &larger).expect("load with other sizes");
    let want = Fate::KeptWithSize { entries, wanted: entries * 4 };
    assert_eq!(plane.loaded.report.maps[map::FLOWS4], want);
    assert_eq!(plane.loaded.tables.flows4.capacity(), entries);
    assert_eq!(plane.loaded.tables.flows4.count().expect("count"), 1);
}

#[test]
fn a_load_that_fails_changes_nothing() {
    let plane = Plane::new();
    let before = plane.places.pins();
    // What a crash in the middle of a load leaves behind.
    let left = plane.pins.map("NETWORKS-new");
    Array::<_, u64>::create(16, 0).expect("create").pin(&left).expect("pin");
    let error = load_object(b"not an object", &plane.pins, &sizes()).expect_err("nonsense loads");
    assert!(matches!(error, BpfError::Object(_)), "{error}");
    assert_eq!(plane.places.pins(), before);
}

/// Identifiers of the programs, by name.
fn identities(plane: &Plane) -> BTreeMap<String, u32> {
    plane.loaded.programs.iter().map(|(name, program)| (name.to_owned(), program.id)).collect()
}

/// The directories in which programs are pinned.
fn builds(plane: &Plane) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(plane.pins.programs_dir()).expect("programs are pinned");
    entries.map(|entry| entry.expect("an entry").path()).collect()
}

#[test]
fn a_restart_of_a_build_takes_its_programs_as_they_are_and_another_build_loads_its_own() {
    let mut plane = Plane::new();
    let first = identities(&plane);
    plane.reload();
    assert_eq!(identities(&plane), first);
    plane.upgrade();
    let second = identities(&plane);
    assert_eq!(first.keys().collect::<Vec<_>>(), second.keys().collect::<Vec<_>>());
    assert!(first.values().all(|old| !second.values().any(|new| new == old)), "{second:?}");
    assert_eq!(builds(&plane).len(), 1, "the former build's are gone: {:?}", builds(&plane));
}

#[test]
fn programs_are_kept_only_whole_over_the_maps_in_force_and_under_their_own_names() {
    let mut plane = Plane::new();
    let place = builds(&plane).remove(0);
    type Spoil = fn(&Plane, &Path);
    let spoilers: [(&str, Spoil); 4] = [
        ("another map is in force", |plane, _| {
            std::fs::remove_file(plane.pins.map(map::LOCALS4)).expect("unpin");
        }),
        ("a removal that was cut short", |_, place| {
            let away = PathBuf::from(format!("{}-new", place.display()));
            std::fs::rename(place, &away).expect("rename");
            std::fs::remove_file(away.join(FROM_CONTAINER)).expect("unpin");
        }),
        ("a program under another's name", |_, place| {
            std::fs::remove_file(place.join(TO_CONTAINER)).expect("unpin");
            std::fs::rename(place.join(FROM_CONTAINER), place.join(TO_CONTAINER)).expect("rename");
        }),
        ("a map in a program's place", |plane, place| {
            std::fs::remove_file(place.join(TO_CONTAINER)).expect("unpin");
            std::fs::rename(plane.pins.map(map::CHOSEN), place.join(TO_CONTAINER)).expect("rename");
        }),
    ];
    for (story, spoil) in spoilers {
        let before = identities(&plane);
        spoil(&plane, &place);
        plane.reload();
        let after = identities(&plane);
        assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>(), "{story}");
        assert!(before.iter().all(|(name, id)| after[name] != *id), "{story}: {after:?}");
        assert_eq!(builds(&plane), std::slice::from_ref(&place), "{story}");
    }
}

#[test]
fn two_agents_with_other_directories_know_nothing_of_each_other() {
    let (one, two) = (Plane::new(), Plane::new());
    let network = Network { flags: Network::PRESENT, ..Default::default() };
    one.loaded.tables.networks.put(&1, &network).expect("put");
    assert!(two.loaded.tables.networks.all().expect("read").is_empty());
    cleanup(&one.places.bpffs()).expect("cleanup");
    assert!(one.places.pins().is_empty(), "{:?}", one.places.pins());
    let programs = two.loaded.programs.iter().count();
    assert_eq!(two.places.pins().len(), map::ALL.len() + programs);
}

#[test]
fn a_bpffs_is_mounted_where_it_is_missing() {
    bascule_tests::require_root();
    let places = Places::new();
    let dir = places.root().join("deep/er");
    let pins = Pins::open(&dir).expect("mounts a bpffs");
    assert!(pins.maps_dir().is_dir() && pins.links_dir().is_dir());
    Pins::open(&dir).expect("finds it the second time");
    Pins::open(&dir.join("one/two")).expect("makes directories on it");
    let mounts = bascule_tests::places::mounts_below(&dir);
    assert_eq!(mounts.len(), 1, "mounted once: {mounts:?}");
}

#[test]
fn a_private_mount_namespace_is_refused_unless_its_bpffs_is_live() {
    use nix::sched::{CloneFlags, unshare};
    bascule_tests::require_root();
    let places = Places::new();
    let outcomes = std::thread::scope(|scope| {
        scope
            .spawn(|| {
                unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS).expect("unshare");
                (Pins::open(&places.root().join("no-bpffs")), Pins::open(&places.bpffs()))
            })
            .join()
            .expect("thread")
    });
    let error = outcomes.0.expect_err("mounted in a private namespace").to_string();
    assert!(error.contains("mount namespace of its own") && error.contains("nsenter"), "{error}");
    outcomes.1.expect("a live bpffs is fine");
}
