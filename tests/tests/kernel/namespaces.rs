//! Namespaces: pinned, named, entered, removed.

use std::{fs, path::Path};

use bascule::kernel::{
    Error, Outcome,
    netns::{self, Namespace, Pinned, Published},
};
use bascule_tests::Netns;

use crate::{block_on, mounts_below, namespace};

/// A directory for pins; whatever is mounted there goes with it.
struct Pins(tempfile::TempDir);

impl Pins {
    fn new() -> Self {
        bascule_tests::require_root();
        let pins = Self(tempfile::tempdir().unwrap());
        netns::prepare_directory(pins.path()).unwrap();
        pins
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        for pin in netns::pinned(self.path()).unwrap_or_default() {
            let _ = netns::remove(&self.path().join(pin.name));
        }
        let _ = netns::release_directory(self.path());
    }
}

#[test]
fn a_namespace_is_made_pinned_and_removed() {
    let pins = Pins::new();
    let path = pins.path().join("one");
    let (made, outcome) = netns::create(&path).unwrap();
    assert_eq!(outcome, Outcome::Done);
    let (again, outcome) = netns::create(&path).unwrap();
    assert_eq!(outcome, Outcome::Already);
    let current = Namespace::current().unwrap();
    assert_eq!(made.identity().unwrap(), again.identity().unwrap());
    assert_ne!(made.identity().unwrap(), current.identity().unwrap());
    assert_eq!(made.cookie().unwrap(), again.cookie().unwrap());
    assert_ne!(made.cookie().unwrap(), current.cookie().unwrap());
    let live = Pinned { name: "one".into(), live: true };
    assert_eq!(netns::pinned(pins.path()).unwrap(), [live]);

    assert_eq!(netns::remove(&path).unwrap(), Outcome::Done);
    assert_eq!(netns::remove(&path).unwrap(), Outcome::Already);
    assert!(!path.exists());
    assert_eq!(netns::pinned(pins.path()).unwrap(), []);
}

#[test]
fn what_was_cut_short_is_finished_or_removed() {
    let pins = Pins::new();
    let path = pins.path().join("half");
    fs::write(&path, "").unwrap();
    let half = Pinned { name: "half".into(), live: false };
    assert_eq!(netns::pinned(pins.path()).unwrap(), [half]);
    assert_eq!(netns::remove(&path).unwrap(), Outcome::Done);
    fs::write(&path, "").unwrap();
    assert_eq!(netns::create(&path).unwrap().1, Outcome::Done);
    assert_eq!(netns::remove(&path).unwrap(), Outcome::Done);
    fs::write(&path, "someone's").unwrap();
    assert!(matches!(netns::remove(&path), Err(Error::Foreign { .. })));
    fs::remove_file(&path).unwrap();
}

#[test]
fn the_directory_is_mounted_once_and_given_back() {
    let pins = Pins::new();
    netns::prepare_directory(pins.path()).unwrap();
    let mounts = mounts_below(pins.path());
    assert_eq!(mounts.len(), 1, "{mounts:?}");
    assert!(mounts[0].contains(" shared:"), "{mounts:?}");
    assert_eq!(netns::release_directory(pins.path()).unwrap(), Outcome::Done);
    assert_eq!(netns::release_directory(pins.path()).unwrap(), Outcome::Already);
    assert!(mounts_below(pins.path()).is_empty() && !pins.path().exists());
}

#[test]
fn what_is_no_network_namespace_is_refused() {
    bascule_tests::require_root();
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = Namespace::open(file.path()).unwrap_err().to_string();
    assert!(error.ends_with("it is no namespace"), "{error}");
    let error = Namespace::open(Path::new("/proc/self/ns/mnt")).unwrap_err().to_string();
    assert!(error.ends_with("it is a namespace of another kind"), "{error}");
    let error = Namespace::of_process(u32::MAX).unwrap_err();
    assert!(error.is_absent(), "{error}");
}

fn panics() {
    panic!("of the test");
}

#[test]
fn work_is_done_inside_on_a_thread_that_ends() {
    let ns = namespace(&Netns::new("work"));
    let inside = block_on(ns.run(|| Namespace::current().unwrap().identity().unwrap())).unwrap();
    assert_eq!(inside, ns.identity().unwrap());
    assert_ne!(Namespace::current().unwrap().identity().unwrap(), inside);
    let panicked = block_on(ns.run(panics));
    assert!(panicked.is_err());
    assert!(ns.run_blocking(panics).is_err());
}

#[test]
fn a_name_for_ip_netns_is_made_if_free_and_removed_if_ours() {
    let directory = tempfile::tempdir().unwrap();
    let names = directory.path().join("netns");
    let (ours, theirs) = (Path::new("/nonexistent/ours"), Path::new("/nonexistent/theirs"));
    assert_eq!(netns::publish(&names, "web", ours).unwrap(), Published::Made);
    assert_eq!(netns::publish(&names, "web", ours).unwrap(), Published::Already);
    assert_eq!(netns::publish(&names, "web", theirs).unwrap(), Published::Taken);
    assert_eq!(netns::unpublish(&names, "web", theirs).unwrap(), Outcome::Already);
    assert_eq!(fs::read_link(names.join("web")).unwrap(), ours);
    assert_eq!(netns::unpublish(&names, "web", ours).unwrap(), Outcome::Done);
    assert_eq!(netns::unpublish(&names, "web", ours).unwrap(), Outcome::Already);
    assert_eq!(netns::publish(&names, "web", ours).unwrap(), Published::Made);
    let found = [("web".to_owned(), ours.to_owned())];
    assert_eq!(netns::published(&names, Path::new("/nonexistent")).unwrap(), found);
    assert_eq!(netns::published(&names, Path::new("/nonexistent/ours")).unwrap(), []);
    assert_eq!(netns::published(ours, ours).unwrap(), []);
    fs::write(names.join("db"), "").unwrap();
    assert_eq!(netns::publish(&names, "db", ours).unwrap(), Published::Taken);
    assert_eq!(netns::unpublish(&names, "db", ours).unwrap(), Outcome::Already);
    for name in ["", ".", "..", "../x", "a/b"] {
        assert!(netns::publish(&names, name, ours).is_err(), "{name:?}");
    }
}
