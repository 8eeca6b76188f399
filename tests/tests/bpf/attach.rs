//! Programs on interfaces and cgroups: attached, swapped in place, found again, taken off.

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use bascule::kernel::bpf::{
    Attached, BpfError, CgroupHook, Hook, Hooks, Mode, Pins, Side, cleanup, find_cgroup, load,
};
use bascule_common::abi::names::program::{FROM_CONTAINER, TO_CONTAINER, TO_UPLINK};
use bascule_tests::{Netns, wait};

use crate::{Plane, sizes};

fn veth() -> (Netns, u32) {
    let ns = Netns::new("bpf");
    ns.sh("ip link add bsc00000001 type veth peer name eth0");
    ns.sh("ip link set bsc00000001 up");
    let ifindex = ns.ifindex("bsc00000001").expect("a veth");
    (ns, ifindex)
}

/// Names of the programs that really run at ingress, whoever put them there, by either mechanism.
fn at_ingress(ns: &Netns) -> Vec<String> {
    use aya::programs::{SchedClassifier, TcAttachType};
    let (_, links) =
        ns.run(|| SchedClassifier::query_tcx("bsc00000001", TcAttachType::Ingress)).expect("query");
    let mut names: Vec<_> =
        links.iter().filter_map(|info| info.name_as_str().map(str::to_owned)).collect();
    let filters = ns.sh("tc filter show dev bsc00000001 ingress");
    let named = filters.split("handle 0x1 ").skip(1).filter_map(|rest| rest.split(' ').next());
    names.extend(named.map(str::to_owned));
    names
}

fn both(mode: Mode) {
    let (ns, ifindex) = veth();
    let mut plane = Plane::new();
    let hooks = Hooks::new(plane.pins.clone(), mode);
    let (ingress, egress) =
        (Hook { ifindex, side: Side::Ingress }, Hook { ifindex, side: Side::Egress });
    let attach = |plane: &Plane| {
        ns.run(|| {
            let programs = &plane.loaded.programs;
            (
                hooks.attach(programs, ingress, FROM_CONTAINER).expect("attach"),
                hooks.attach(programs, egress, TO_CONTAINER).expect("attach"),
            )
        })
    };
    assert_eq!(attach(&plane), (Attached::Created, Attached::Created));
    assert_eq!(attach(&plane), (Attached::Kept, Attached::Kept));
    let seen = ns.run(|| hooks.all().expect("list"));
    assert_eq!(seen[&ingress].program, FROM_CONTAINER);
    assert_eq!(seen[&egress].program, TO_CONTAINER);
    let of = |plane: &Plane, name| plane.loaded.programs.get(name).expect("loaded").id;
    assert_eq!(seen[&ingress].program_id, of(&plane, FROM_CONTAINER));
    assert_eq!(seen[&ingress].mode, mode);

    // A restart: they stay as they are.
    plane.reload();
    assert_eq!(attach(&plane), (Attached::Kept, Attached::Kept));
    // Another build: new programs on the same hooks, and never two on one.
    plane.upgrade();
    assert_eq!(attach(&plane), (Attached::Updated, Attached::Updated));
    let seen = ns.run(|| hooks.all().expect("list"));
    assert_eq!(seen[&ingress].program_id, of(&plane, FROM_CONTAINER));
    assert_eq!(at_ingress(&ns), [FROM_CONTAINER]);

    // The other mechanism takes over from this one.
    let other = match mode {
        Mode::Tcx => Mode::Clsact,
        Mode::Clsact => Mode::Tcx,
    };
    let changed = Hooks::new(plane.pins.clone(), other);
    let old = ns.run(|| changed.all().expect("list"));
    assert!(!old[&ingress].is_current(&plane.loaded.programs, other), "{old:?}");
    ns.run(|| changed.attach(&plane.loaded.programs, ingress, FROM_CONTAINER)).expect("change");
    assert_eq!(at_ingress(&ns), [FROM_CONTAINER]);

    assert!(ns.run(|| hooks.detach(egress)).expect("detach"));
    assert!(!ns.run(|| hooks.detach(egress)).expect("detach"), "detached twice");
    let seen = ns.run(|| changed.all().expect("list"));
    assert_eq!(seen.keys().copied().collect::<Vec<_>>(), [ingress]);
    assert!(seen[&ingress].is_current(&plane.loaded.programs, other));
    assert!(!seen[&ingress].is_current(&plane.loaded.programs, mode));

    let removed = ns.run(|| cleanup(&plane.places.bpffs())).expect("cleanup");
    assert_eq!(removed.links + removed.filters, 1, "{removed:?}");
    assert!(at_ingress(&ns).is_empty());
    assert!(plane.places.pins().is_empty(), "{:?}", plane.places.pins());
    assert!(!ns.sh("tc qdisc show").contains("clsact"), "a qdisc of ours stays");
    assert_eq!(ns.run(|| cleanup(&plane.places.bpffs())).expect("twice"), Default::default());
}

#[test]
fn a_qdisc_that_others_made_or_use_stays() {
    let has_qdisc = |ns: &Netns| ns.sh("tc qdisc show").contains("clsact");
    for used in [false, true] {
        let (ns, ifindex) = veth();
        let plane = Plane::new();
        if !used {
            ns.sh("tc qdisc add dev bsc00000001 clsact");
        }
        let hooks = Hooks::new(plane.pins.clone(), Mode::Clsact);
        let hook = Hook { ifindex, side: Side::Ingress };
        ns.run(|| hooks.attach(&plane.loaded.programs, hook, FROM_CONTAINER)).expect("attach");
        if used {
            let pinned = plane.places.bpffs().join("foreign");
            let id = plane.loaded.programs.get(TO_CONTAINER).expect("loaded").id;
            ns.sh(&format!("bpftool prog pin id {id} {}", pinned.display()));
            let pinned = pinned.display();
            ns.sh(&format!("tc filter add dev bsc00000001 egress prio 7 bpf da pinned {pinned}"));
            std::fs::remove_file(pinned.to_string()).expect("the pin");
        }
        ns.run(|| cleanup(&plane.places.bpffs())).expect("cleanup");
        assert!(at_ingress(&ns).is_empty());
        assert!(has_qdisc(&ns), "used: {used}");
        assert!(plane.places.pins().is_empty(), "{:?}", plane.places.pins());
    }
}

#[test]
fn tcx_links_are_swapped_in_place_and_cleaned_up() {
    both(Mode::Tcx);
}

#[test]
fn clsact_filters_are_swapped_in_place_and_cleaned_up() {
    both(Mode::Clsact);
}

#[test]
fn a_foreign_filter_at_our_place_is_refused_and_stays() {
    let (ns, ifindex) = veth();
    let plane = Plane::new();
    ns.sh("tc qdisc add dev bsc00000001 clsact");
    let pinned = plane.places.bpffs().join("foreign");
    let id = plane.loaded.programs.get(FROM_CONTAINER).expect("loaded").id;
    ns.sh(&format!("bpftool prog pin id {id} {}", pinned.display()));
    ns.sh(&format!(
        "tc filter add dev bsc00000001 ingress prio 50 handle 1 bpf da pinned {}",
        pinned.display()
    ));
    let hooks = Hooks::new(plane.pins.clone(), Mode::Clsact);
    let hook = Hook { ifindex, side: Side::Ingress };
    let error = ns
        .run(|| hooks.attach(&plane.loaded.programs, hook, FROM_CONTAINER))
        .expect_err("a foreign filter was replaced");
    assert!(error.to_string().contains("foreign filter (foreign"), "{error}");
    assert!(!ns.run(|| hooks.detach(hook)).expect("detach"));
    assert!(ns.sh("tc filter show dev bsc00000001 ingress").contains("foreign"));
}

#[test]
fn pins_of_interfaces_that_are_gone_are_swept() {
    let (ns, ifindex) = veth();
    let plane = Plane::new();
    let hooks = Hooks::new(plane.pins.clone(), Mode::Tcx);
    let hook = Hook { ifindex, side: Side::Ingress };
    ns.run(|| hooks.attach(&plane.loaded.programs, hook, FROM_CONTAINER)).expect("attach");
    assert_eq!(ns.run(|| hooks.sweep()).expect("sweep"), []);
    ns.sh("ip link del bsc00000001");
    assert_eq!(ns.run(|| hooks.sweep()).expect("sweep"), [hook]);
    assert!(!plane.places.pins().iter().any(|pin| pin.contains("links")));
    let error = ns
        .run(|| hooks.attach(&plane.loaded.programs, hook, FROM_CONTAINER))
        .expect_err("attached to nothing");
    assert!(error.is_gone(), "{error}");
}

#[test]
fn a_pin_that_is_not_what_its_name_says_is_not_believed() {
    let (ns, ifindex) = veth();
    ns.sh("ip link add other type veth peer name other0");
    let other = ns.ifindex("other").expect("a veth");
    let plane = Plane::new();
    let hooks = Hooks::new(plane.pins.clone(), Mode::Tcx);
    let attach = |ifindex, name| {
        let hook = Hook { ifindex, side: Side::Egress };
        ns.run(|| hooks.attach(&plane.loaded.programs, hook, name))
    };
    attach(other, TO_UPLINK).expect("attach");
    let links = plane.pins.links_dir();
    std::fs::rename(links.join(format!("{other}-eg")), links.join(format!("{ifindex}-eg")))
        .expect("rename");
    assert_eq!(attach(ifindex, TO_CONTAINER).expect("attach"), Attached::Created);
    let seen = ns.run(|| hooks.all().expect("list"));
    assert_eq!(seen[&Hook { ifindex, side: Side::Egress }].program, TO_CONTAINER);
    assert_eq!(seen.len(), 1, "{seen:?}");
}

#[test]
fn links_of_another_abi_version_are_taken_over() {
    let (ns, ifindex) = veth();
    let mut plane = Plane::new();
    let hooks = Hooks::new(plane.pins.clone(), Mode::Tcx);
    let hook = Hook { ifindex, side: Side::Ingress };
    ns.run(|| hooks.attach(&plane.loaded.programs, hook, FROM_CONTAINER)).expect("attach");
    let old = plane.places.bpffs().join("v999");
    std::fs::rename(plane.pins.version_dir(), &old).expect("rename");

    plane.pins = Pins::open(&plane.places.bpffs()).expect("pins");
    plane.reload();
    let swapped = ns.run(|| hooks.attach(&plane.loaded.programs, hook, FROM_CONTAINER));
    assert_eq!(swapped.expect("attach"), Attached::Updated);
    hooks.forget_other_versions().expect("forget");
    assert!(!old.exists());
    assert_eq!(at_ingress(&ns), [FROM_CONTAINER]);
}

/// Not a test: what the next one kills.
#[test]
#[ignore = "the victim of `attachments_outlive_a_killed_agent`"]
fn victim() {
    let (Ok(dir), Ok(ifindex)) = (std::env::var("VICTIM_PINS"), std::env::var("VICTIM_IFINDEX"))
    else {
        return;
    };
    let pins = Pins::open(dir.as_ref()).expect("pins");
    let loaded = load(&pins, &sizes()).expect("load");
    let ifindex = ifindex.parse().expect("a number");
    let hook = Hook { ifindex, side: Side::Ingress };
    Hooks::new(pins, Mode::Tcx).attach(&loaded.programs, hook, FROM_CONTAINER).expect("attach");
    loop {
        std::thread::sleep(Duration::from_secs(3_600));
    }
}

#[test]
fn attachments_outlive_a_killed_agent() {
    let (ns, ifindex) = veth();
    let places = bascule_tests::places::Places::new();
    let mut child: Command = ns.command(std::env::current_exe().expect("this test"));
    child
        .args(["--exact", "attach::victim", "--ignored"])
        .env("VICTIM_PINS", places.bpffs())
        .env("VICTIM_IFINDEX", ifindex.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut child = child.spawn().expect("spawn");
    let pin = format!("{ifindex}-in");
    wait::wait_until("the child's link", wait::START, || {
        places.pins().iter().any(|path| path.ends_with(&pin))
    });
    child.kill().expect("kill");
    child.wait().expect("wait");

    let pins = Pins::open(&places.bpffs()).expect("pins");
    let hooks = Hooks::new(pins.clone(), Mode::Tcx);
    let hook = Hook { ifindex, side: Side::Ingress };
    let seen = ns.run(|| hooks.all().expect("list"));
    assert_eq!(seen[&hook].program, FROM_CONTAINER);
    let loaded = load(&pins, &sizes()).expect("load");
    assert_eq!(seen[&hook].program_id, loaded.programs.get(FROM_CONTAINER).expect("it").id);
    let kept = ns.run(|| hooks.attach(&loaded.programs, hook, FROM_CONTAINER)).expect("attach");
    assert_eq!(kept, Attached::Kept);
}

#[test]
fn bind_hooks_are_attached_swapped_and_taken_off() {
    let mut plane = Plane::new();
    let hooks = Hooks::new(plane.pins.clone(), Mode::Tcx);
    let cgroup = find_cgroup(Some(&bascule_tests::places::cgroup()), &plane.places.run())
        .expect("the test's cgroup");
    for hook in CgroupHook::ALL {
        let attach = |plane: &Plane| hooks.attach_cgroup(&plane.loaded.programs, &cgroup, hook);
        if !plane.loaded.programs.has(hook.program()) {
            let error = attach(&plane).expect_err("attached a program that is not there");
            assert!(matches!(error, BpfError::NoProgram(_)), "{error}");
            continue;
        }
        plane.reload();
        assert_eq!(attach(&plane).expect("attach"), Attached::Created);
        plane.reload();
        assert_eq!(attach(&plane).expect("attach"), Attached::Kept);
        plane.upgrade();
        assert_eq!(attach(&plane).expect("attach"), Attached::Updated);
        let id = plane.loaded.programs.get(hook.program()).expect("loaded").id;
        assert_eq!(hooks.cgroup_program(hook).expect("look"), Some(id));
        assert!(hooks.detach_cgroup(hook).expect("detach"));
        assert_eq!(hooks.cgroup_program(hook).expect("look"), None);
    }
}

#[test]
fn a_directory_that_is_no_cgroup_is_refused() {
    bascule_tests::require_root();
    let error = find_cgroup(Some("/tmp".as_ref()), "/run".as_ref()).expect_err("/tmp is a cgroup");
    assert!(matches!(error, BpfError::Cgroup { .. }), "{error}");
}
