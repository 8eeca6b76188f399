//! Links of `--link`: where they belong, and what they may lead to.

use super::*;
use crate::model::{ExtraHost, Link, Naming, Resolver};

fn linked(name: &str, networks: &[&str], link: &str) -> ContainerSpec {
    ContainerSpec { links: vec![link.parse::<Link>().unwrap()], ..container(name, networks) }
}

fn create(spec: ContainerSpec) -> Change {
    Change::CreateContainer(Box::new(spec))
}

#[test]
fn s148_s153_links_of_a_network_may_dangle_and_are_its_own() {
    let mut world = World::with_default();
    world.network("n1", "10.1.0.0/24");
    world.network("n2", "10.2.0.0/24");
    let c1 = world.run(linked("c1", &["n1", "n2"], "later:l"));
    assert_eq!(c1.links, []);
    assert_eq!(c1.attachments[0].links, ["later:l".parse().unwrap()]);
    assert_eq!(c1.attachments[1].links, []);
}

#[test]
fn s146_moby_dns_033_links_of_the_default_network_lead_to_somebody_who_runs() {
    let mut world = World::with_default();
    let (status, message) = world.refused(&create(linked("web", &[], "bogus:b")));
    assert_eq!(status, 400);
    assert!(
        message.starts_with("could not get container for bogus: No such container"),
        "{message}"
    );
    world.run(container("hosted", &["host"]));
    let (status, message) = world.refused(&create(linked("web", &[], "hosted")));
    assert_eq!(status, 400);
    assert!(message.starts_with("conflicting options: host type networking"), "{message}");
    assert_eq!(world.refused(&create(linked("web", &["host"], "hosted"))).0, 400);

    let db = world.run(container("db", &[]));
    let id = db.id.short();
    world.ok(&create(linked("web", &[], &format!("{id}:sql"))));
    assert_eq!(world.container("web").links, ["db:sql".parse().unwrap()]);
    world.ok(&stop("db"));
    assert_eq!(
        world.refused(&Change::Start("web".into())),
        (409, "Cannot link to a non running container: /db AS /web/sql".into())
    );
    world.ok(&Change::Start("db".into()));
    world.ok(&Change::Start("web".into()));
}

#[test]
fn p103_an_endpoints_names_have_dockers_order() {
    let mut world = World::new();
    world.network("n1", "10.1.0.0/24");
    let aliases = ["app", "c1"].map(String::from).to_vec();
    let endpoint = EndpointSpec { aliases, ..EndpointSpec::default() };
    let networks = vec![("n1".into(), endpoint)];
    let c1 = world.run(ContainerSpec { networks, hostname: "h1".into(), ..container("c1", &[]) });
    let names = c1.names_at(&c1.attachments[0]);
    assert_eq!(names, ["c1", "app", &c1.id.short(), "h1"]);
}

#[test]
fn moby_api_014_who_has_anothers_network_has_its_names() {
    let mut world = World::with_default();
    world.run(container("c1", &[]));
    let guest = |naming| ContainerSpec { naming, ..container("guest", &["container:c1"]) };
    let servers = vec![[9, 9, 9, 9].into()];
    let resolver = Resolver { servers, ..Resolver::default() };
    let (_, message) = world.refused(&create(guest(Naming { resolver, ..Naming::default() })));
    assert_eq!(message, "conflicting options: dns and the network mode");
    let extra_hosts = vec!["a:1.2.3.4".parse::<ExtraHost>().unwrap()];
    let (_, message) = world.refused(&create(guest(Naming { extra_hosts, ..Naming::default() })));
    assert_eq!(message, "conflicting options: custom host-to-IP mapping and the network mode");
}
