//! Networks that are configurations only, what is pruned, and how networks are found.

use super::*;

fn named(name: &str) -> NetworkSpec {
    NetworkSpec { name: name.into(), ..NetworkSpec::default() }
}

fn config() -> NetworkSpec {
    NetworkSpec {
        config_only: true,
        options: [(crate::model::keys::MTU.to_owned(), "1233".to_owned())].into(),
        labels: [("team".to_owned(), "a".to_owned())].into(),
        ..NetworkSpec { name: "cfg".into(), ..network("cfg", "10.7.0.0/24") }
    }
}

#[test]
fn p6_moby_api_010_networks_take_the_configuration_of_another() {
    let mut world = World::with_default();
    world.ok(&Change::CreateNetwork(config()));
    let from = |name: &str| NetworkSpec { config_from: Some("cfg".into()), ..named(name) };
    world.ok(&Change::CreateNetwork(NetworkSpec { attachable: true, ..from("n1") }));
    let made = world.made("n1");
    assert_eq!(made.ipv4.as_ref().unwrap().subnet.to_string(), "10.7.0.0/24");
    assert_eq!((made.mtu, made.labels["team"].as_str(), made.attachable), (1233, "a", true));
    assert_eq!(made.config_from.as_ref().map(ToString::to_string).as_deref(), Some("cfg"));
    let mut check = |change: Change, status: u16, text: &str| {
        assert_eq!(world.refused(&change), (status, text.to_owned()));
    };
    // The subnet is one, and has gone to the first.
    check(
        Change::CreateNetwork(from("n2")),
        403,
        "invalid pool request: Pool overlaps with other one on this address space",
    );
    check(Change::RemoveNetwork("cfg".into()), 403, "configuration network \"cfg\" is in use");
    check(
        Change::CreateNetwork(NetworkSpec { config_from: Some("no".into()), ..named("n2") }),
        404,
        "configuration network \"no\" does not exist",
    );
    check(
        Change::CreateNetwork(NetworkSpec { labels: config().labels, ..from("n2") }),
        403,
        "user specified configurations are not supported if the network depends on a configuration network",
    );
    check(
        Change::CreateNetwork(NetworkSpec { config_only: true, ..from("n2") }),
        403,
        "a configuration network cannot depend on another configuration network",
    );
    for operator in [
        NetworkSpec { internal: true, ..config() },
        NetworkSpec { attachable: true, ..config() },
        NetworkSpec { scope_given: true, ..config() },
    ] {
        let (status, text) =
            world.refused(&Change::CreateNetwork(NetworkSpec { name: "x".into(), ..operator }));
        assert!(
            status == 403 && text.starts_with("configuration network can only contain"),
            "{text}"
        );
    }
    // Nobody is on it, and nobody prunes it.
    let on = Change::CreateContainer(Box::new(container("c1", &["cfg"])));
    let text = "cannot create endpoint on configuration-only network";
    assert_eq!(world.refused(&on), (403, text.to_owned()));
    world.ok(&Change::CreateContainer(Box::new(container("c1", &[]))));
    assert_eq!(world.refused(&connect("cfg", "c1", None)), (403, text.to_owned()));
    world.ok(&Change::PruneNetworks(PruneFilter::default()));
    assert!(find::network(&world.desired, "n1").is_err());
    world.ok(&Change::RemoveNetwork("cfg".into()));
    assert!(world.desired.configs.is_empty());
}

#[test]
fn p19_options_and_subnets_that_make_no_sense_are_told_at_once() {
    let mut world = World::new();
    let key = crate::model::keys::MTU;
    let bad = |value: &str, subnet: &str| {
        let options = [(key.to_owned(), value.to_owned())].into();
        NetworkSpec { options, ..network("n", subnet) }
    };
    let mut two = bad("x", "10.7.0.1/24");
    two.options.insert(crate::model::keys::IPV6.into(), "maybe".into());
    for config_only in [false, true] {
        let two = NetworkSpec { config_only, ..two.clone() };
        let (status, text) = world.refused(&Change::CreateNetwork(two));
        let lines = [
            "invalid network config:",
            "driver-opt \"com.docker.network.enable_ipv6\" is not a valid bool",
            "failed to parse com.docker.network.driver.mtu value: x (not a number)",
            "invalid subnet 10.7.0.1/24: it should be 10.7.0.0/24",
        ];
        assert_eq!((status, text), (400, lines.join("\n")));
    }
    // A single complaint stands alone.
    let (_, text) = world.refused(&Change::CreateNetwork(bad("x", "10.7.0.0/24")));
    assert_eq!(text, "failed to parse com.docker.network.driver.mtu value: x (not a number)");
}

#[test]
fn p6_a_configuration_that_makes_no_sense_is_none() {
    let mut world = World::new();
    let bad = NetworkSpec { subnets: network("x", "10.7.0.1/24").subnets, ..config() };
    let (status, text) = world.refused(&Change::CreateNetwork(bad));
    assert_eq!(status, 400);
    assert!(text.contains("it should be 10.7.0.0/24"), "{text}");
    world.ok(&Change::CreateNetwork(config()));
    let (status, text) = world.refused(&Change::CreateNetwork(named("cfg")));
    assert_eq!((status, text.as_str()), (409, "network with name cfg already exists"));
}

#[test]
fn p1_moby_lc_021_only_unused_networks_that_are_meant_are_pruned() {
    let mut world = World::with_default();
    let labelled = |name: &str, labels: &[(&str, &str)]| {
        let labels = labels.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect();
        Change::CreateNetwork(NetworkSpec { labels, ..named(name) })
    };
    world.ok(&labelled("plain", &[]));
    world.ok(&labelled("foo", &[("foo", "1")]));
    world.ok(&labelled("bar", &[("bar", "1")]));
    world.ok(&labelled("used", &[("foo", "1")]));
    world.run(container("c1", &["used"]));
    // As with Docker, a network is used by those who are on it: one that does not run is not.
    world.network("named", "10.7.0.0/24");
    world.ok(&Change::CreateContainer(Box::new(container("c2", &["named"]))));
    let mut pruned = |filter: PruneFilter| match world.ok(&Change::PruneNetworks(filter)) {
        Outcome::Pruned(mut names) => {
            names.sort();
            names.iter().map(ToString::to_string).collect::<Vec<_>>()
        }
        other => panic!("{other:?}"),
    };
    let before = Some(Timestamp::UNIX_EPOCH);
    assert!(pruned(PruneFilter { before, ..PruneFilter::default() }).is_empty());
    let labels = vec!["foo=2".to_owned()];
    assert!(pruned(PruneFilter { labels, ..PruneFilter::default() }).is_empty());
    let labels = vec!["foo=1".to_owned()];
    assert_eq!(pruned(PruneFilter { labels, ..PruneFilter::default() }), ["foo"]);
    let without = vec!["bar".to_owned()];
    assert_eq!(pruned(PruneFilter { without, ..PruneFilter::default() }), ["named", "plain"]);
    assert_eq!(pruned(PruneFilter::default()), ["bar"]);
    let refused = world.refused(&Change::Start("c2".into()));
    assert_eq!(refused.0, 404, "{}", refused.1);
    assert!(find::network(&world.desired, "used").is_ok());
    assert!(find::network(&world.desired, "bridge").is_ok());
}

#[test]
fn p5_moby_api_006_networks_are_found_by_id_then_name_then_beginning() {
    let mut world = World::new();
    // Two ids that begin alike.
    let mut count = 0_u8;
    world.facts.entropy = Box::new(move || {
        count += 1;
        let mut bytes = [0xab; 32];
        bytes[3] = count;
        bytes
    });
    world.network("one", "10.1.0.0/24");
    world.network("two", "10.2.0.0/24");
    let id = |name: &str| world.made(name).id.to_string();
    let (one, two) = (id("one"), id("two"));
    // A name may look like the beginning of an id, or like all of another's.
    world.network("abab", "10.3.0.0/24");
    world.network(&two, "10.4.0.0/24");
    let found = |reference: &str| {
        find::network(&world.desired, reference)
            .map(|f| f.name().to_owned())
            .map_err(|e| (e.status(), e.message))
    };
    assert_eq!(found(&one), Ok("one".into()));
    assert_eq!(found(&two), Ok("two".into()), "the full id comes before a name");
    assert_eq!(found("abab"), Ok("abab".into()), "the name comes before a beginning");
    assert_eq!(found(&one[..8]), Ok("one".into()));
    assert_eq!(found(&one[..8].to_uppercase()), Ok("one".into()));
    let text = "network ababa is ambiguous (4 matches found based on ID prefix)";
    assert_eq!(found("ababa"), Err((400, text.into())));
    assert_eq!(found("nonexistent"), Err((404, "network nonexistent not found".into())));
    assert_eq!(found(""), Err((404, "network  not found".into())));
}

#[test]
fn netav_dns_001_the_name_servers_of_a_network_change_while_it_is_used() {
    let mut world = World::with_default();
    world.network("n1", "10.1.0.0/24");
    let update = |network: &str, add: &[&str], drop: &[&str]| {
        let list = |words: &[&str]| words.iter().map(|ip| ip.parse().unwrap()).collect();
        Change::UpdateNetwork { network: network.into(), add: list(add), drop: list(drop) }
    };
    let shown = |world: &World| world.made("n1").options.verbatim.get("bascule.dns").cloned();
    world.ok(&update("n1", &["192.0.2.53", "2001:db8::53"], &[]));
    assert_eq!(shown(&world).as_deref(), Some("192.0.2.53,2001:db8::53"));
    world.ok(&update("n1", &["192.0.2.53", "192.0.2.54"], &["2001:db8::53", "192.0.2.99"]));
    assert_eq!(shown(&world).as_deref(), Some("192.0.2.53,192.0.2.54"));
    assert_eq!(world.made("n1").options.dns.len(), 2);
    world.ok(&update("n1", &[], &["192.0.2.53", "192.0.2.54"]));
    assert_eq!(shown(&world), None);
    assert_eq!(world.refused(&update("n1", &["0.0.0.0"], &[])).0, 400);
    assert_eq!(world.refused(&update("host", &["192.0.2.1"], &[])).0, 403);
    assert_eq!(world.refused(&update("nowhere", &[], &[])).0, 404);
}
