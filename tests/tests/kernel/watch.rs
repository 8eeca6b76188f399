//! Being told of changes.

use std::time::Duration;

use bascule::kernel::netlink::{Change, Netlink, Watch};
use bascule_tests::Netns;

use crate::{Bridge, block_on, id, namespace};

const SETTLE: Duration = Duration::from_millis(50);
const LIMIT: Duration = Duration::from_secs(10);

async fn changed(watch: &mut Watch) -> Change {
    tokio::time::timeout(LIMIT, watch.changed(SETTLE)).await.expect("a change").unwrap()
}

#[test]
fn a_burst_of_changes_is_one_notification() {
    let host = Netns::new("watch");
    block_on(async {
        let mut watch = Watch::open_in(&namespace(&host)).await.unwrap();
        let quiet = tokio::time::timeout(SETTLE, watch.changed(SETTLE)).await;
        assert!(quiet.is_err(), "nothing changed");
        host.sh("ip link add one type bridge");
        host.sh("ip addr add 10.200.0.1/24 dev one");
        host.sh("ip link set one up");
        let change = changed(&mut watch).await;
        assert!(
            !change.links.is_empty() && !change.addresses.is_empty() && !change.routes.is_empty(),
            "{change:?}"
        );
        assert!(!change.resync);
        host.sh("ip link add two type bridge");
        let dropped = tokio::time::timeout(SETTLE / 5, watch.changed(LIMIT)).await;
        assert!(dropped.is_err(), "dropped while it gathered");
        let two = host.ifindex("two").expect("it was made");
        assert_eq!(changed(&mut watch).await, Change { links: [two].into(), ..Change::default() });
        let one = host.ifindex("one").expect("it was made");
        host.sh("ip route add 203.0.113.0/24 dev one");
        assert_eq!(changed(&mut watch).await, Change { routes: [one].into(), ..Change::default() });
    });
}

#[test]
fn lost_notifications_are_told_and_the_next_are_heard() {
    let host = Netns::new("overrun");
    let bridge = Bridge::of(&id('a'));
    block_on(async {
        let mut watch = Watch::open_in(&namespace(&host)).await.unwrap();
        let netlink = Netlink::open_in(&namespace(&host)).await.unwrap();
        let (index, _) = netlink.create_bridge(&bridge.wanted(1500)).await.unwrap();
        for round in 0..4000 {
            netlink.set_mtu(index, 1400 + round % 2).await.unwrap();
        }
        assert!(changed(&mut watch).await.resync);
        netlink.set_mtu(index, 1300).await.unwrap();
        assert_eq!(
            changed(&mut watch).await,
            Change { links: [index].into(), ..Change::default() }
        );
    });
}
