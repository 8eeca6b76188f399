//! The plan for some containers does what the plan for everything would.

use super::{
    super::{Places, Scope, Seen, narrow},
    *,
};

impl World {
    /// A container that is linked with nobody.
    fn plain(&mut self, number: u8, network: u8) {
        self.change(&Change::CreateContainer(Box::new(ContainerSpec {
            publish: vec![format!("80{number:02}:80").parse().unwrap()],
            links: Vec::new(),
            ..spec(number, network)
        })));
        self.change(&Change::Start(format!("c{number}")));
    }

    /// Makes narrow rounds until there is nothing to do.
    fn converge_narrowly(&mut self, before: &Desired, scope: &Scope) {
        for _ in 0..8 {
            let observed = self.kernel.observe(&self.desired);
            let places = Places::of(observed.links.values());
            let seen = Seen {
                observed: &observed,
                places: &places,
                contents: &observed.contents,
                hooks: &observed.hooks,
            };
            let plan = narrow(before, &self.desired, seen, scope, &self.settings);
            if plan.is_empty() {
                return;
            }
            plan.iter().for_each(|planned| self.kernel.execute(planned));
        }
        panic!("no end of it for {scope:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn what_concerns_containers_alone_is_done_without_the_rest(
        events in prop::collection::vec(event(), 0..24),
    ) {
        let mut world = World::new();
        world.change(&Change::DefaultNetwork(DefaultNetwork::at(DefaultPlace::Automatic)));
        (0..4).for_each(|number| world.network(number));
        world.converge();
        for event in &events {
            let before = world.desired.clone();
            match event {
                Event::Container(c, n) => world.plain(*c, *n),
                Event::Connect(..) | Event::Disconnect(..) | Event::Stop(_) | Event::Start(_) => {
                    happen(&mut world, event);
                }
                _ => continue,
            }
            let scope = Scope::of(&before, &world.desired);
            prop_assert!(scope.is_some(), "{event:?}");
            if let Some(scope) = scope {
                world.converge_narrowly(&before, &scope);
            }
            let observed = world.kernel.observe(&world.desired);
            let left = diff(&world.desired, &observed, &world.settings);
            prop_assert_eq!(left, vec![], "after {:?}", event);
            // Notes the namespaces of those that were brought up.
            world.converge();
        }
    }
}

#[test]
fn a_change_that_is_about_more_than_containers_is_none_of_it() {
    let mut world = World::new();
    world.network(1);
    let before = world.desired.clone();
    world.container(1, 1);
    assert_eq!(Scope::of(&before, &world.desired), None, "links, and a table of ports");
    let before = world.desired.clone();
    world.network(2);
    assert_eq!(Scope::of(&before, &world.desired), None);
}
