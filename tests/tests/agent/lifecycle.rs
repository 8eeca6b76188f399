//! What becomes of a container after its command.

use bascule_tests::{Agent, Topology, wait};

fn prepared() -> (Topology, Agent) {
    let net = Topology::new();
    let agent = Agent::start(&net.host);
    agent.network("n1", "--subnet 10.85.0.0/24");
    (net, agent)
}

#[test]
fn without_rm_it_stays_listed_as_exited() {
    let (_net, agent) = prepared();
    let out = agent.cli("run --name c1 --network n1 -- sh -c true".split(' '));
    assert_eq!(out.code, 0, "{out:?}");
    wait::wait_until("it is exited", wait::SOON, || {
        let listed = agent.ok("container ls -a");
        listed.lines().any(|line| line.contains(" c1 ") && line.contains("Exited"))
    });
    assert!(!agent.ok("container ls").split_whitespace().any(|word| word == "c1"));
    // S61: its address is free.
    let c2 = agent.container("c2", "n1", "--ip 10.85.0.2");
    assert_eq!(c2.address().to_string(), "10.85.0.2");
    agent.ok("container rm c1");
}
