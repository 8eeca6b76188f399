//! The room `kernel::bpf` on the real kernel: loading over pins, attaching, swapping, tables, cleaning up.
//! What the programs do with packets is other layers' affair.

mod attach;
mod events;
mod pins;
mod tables;
mod telemetry;

use bascule::kernel::bpf::{
    Features, Host, Loaded, OBJECT, Pins, Sizes, Wanted, load, load_object,
};
use bascule_tests::places::Places;

/// Small maps: tests run many at once.
fn sizes() -> Sizes {
    let wanted =
        Wanted { connections: Some(1_024), counted_rules: Some(4_096), event_bytes: Some(1 << 16) };
    Sizes::new(Host { memory: 1 << 30, cpus: 2 }, wanted)
}

/// An agent's view of its pins, loaded.
struct Plane {
    places: Places,
    pins: Pins,
    loaded: Loaded,
    upgrades: u8,
}

impl Plane {
    fn new() -> Self {
        bascule_tests::require_root();
        let places = Places::new();
        let pins = Pins::open(&places.bpffs()).expect("pins");
        let loaded = load(&pins, &sizes()).expect("load");
        Self { places, pins, loaded, upgrades: 0 }
    }

    /// What a restart does: loads again over the same pins.
    fn reload(&mut self) {
        self.loaded = load(&self.pins, &sizes()).expect("load again");
    }

    /// What the first start of another build does.
    fn upgrade(&mut self) {
        // What is behind its end is nothing to an object.
        let object = [OBJECT, &[self.upgrades; 8]].concat();
        self.upgrades += 1;
        self.loaded = load_object(&object, &self.pins, &sizes()).expect("load another build");
    }
}

#[test]
fn this_kernel_has_all_that_is_needed() {
    bascule_tests::require_root();
    let features = Features::probe().expect("probe");
    features.check().expect("check");
    assert!(features.cgroup_bind(), "{features:?}");
    assert!(features.to_string().contains("TCX"), "{features}");
}

#[test]
fn without_rights_the_error_says_which_are_missing() {
    bascule_tests::require_root();
    let error = std::thread::spawn(|| {
        // The raw call changes this thread alone, and takes all capabilities from it.
        // SAFETY: no addresses.
        let dropped = unsafe { libc::syscall(libc::SYS_setresuid, 65_534, 65_534, 65_534) };
        assert_eq!(dropped, 0, "setresuid");
        Features::probe().expect_err("probed without rights")
    })
    .join()
    .expect("thread");
    let text = error.to_string();
    assert!(text.contains("no BPF") && text.contains("run as root"), "{text}");
}
