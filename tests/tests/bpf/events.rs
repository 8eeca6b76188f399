//! Events: from the ring to a listener, with names.

use std::{sync::Arc, time::Duration};

use bascule::{
    kernel::bpf::{Hook, Hooks, Mode, Side},
    telemetry::{Events, SharedNames},
};
use bascule_common::abi::{Config, names::program::FROM_CONTAINER};
use bascule_tests::Netns;

use crate::Plane;

#[test]
fn a_drop_reaches_a_listener() {
    let ns = Netns::new("events");
    ns.sh("ip link add bsc00000001 type veth peer name eth0");
    let ifindex = ns.ifindex("bsc00000001").expect("a veth");
    let plane = Plane::new();
    let config = Config { events_per_second: 1_000, ..Default::default() };
    plane.loaded.tables.put_config(&config).expect("config");
    let hooks = Hooks::new(plane.pins.clone(), Mode::Tcx);
    let hook = Hook { ifindex, side: Side::Ingress };
    ns.run(|| hooks.attach(&plane.loaded.programs, hook, FROM_CONTAINER)).expect("attach");

    let events = Events::new(SharedNames::default());
    let mut listener = events.subscribe();
    let tables = Arc::new(plane.loaded.tables);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
    let event = ns.run(|| {
        runtime.block_on(async {
            let reader = async { events.run(&tables).await.expect("the ring is readable") };
            let heard = async {
                // The first word of a link that comes up, neighbour discovery, is dropped: no endpoint.
                ns.sh("ip link set eth0 up");
                ns.sh("ip link set bsc00000001 up");
                let event = listener.recv().await.expect("an event");
                bascule::telemetry::Seen::clone(&event)
            };
            tokio::select! {
                () = reader => panic!("the reader ended"),
                event = heard => event,
                () = tokio::time::sleep(Duration::from_secs(20)) => panic!("no event"),
            }
        })
    });
    assert_eq!(event.reason, "agent_not_ready", "{event:?}");
    assert_eq!((event.interface.as_str(), event.direction.as_str()), ("bsc00000001", "out"));
    assert_eq!(event.container, "");
    // The beginning of the frame comes along: an Ethernet header, and what is in it.
    assert!(event.frame.len() >= 2 * 14 && event.frame.len() as u64 <= 2 * event.length);
}
