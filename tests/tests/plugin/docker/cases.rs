//! What a client of Docker can ask for, on networks of our driver.

use bascule_tests::dockerd::cases;

use crate::stage::{DRIVER, Stage, settle};

#[test]
fn who_reaches_whom_on_networks_of_the_driver() {
    let stage = Stage::start(&[]);
    let why = stage.docker.fails("network create -d nosuchdriver nowhere");
    assert!(why.contains("nosuchdriver") && why.contains("not found"), "MOBY-RD-002: {why}");
    cases::who_reaches_whom(&stage.way());
}

#[test]
fn what_is_published_of_the_driver_and_what_becomes_of_it() {
    let mut stage = Stage::start(&[]);
    cases::what_is_published_and_what_becomes_of_it(&stage.way());
    cases::outside::moby_inc_011_moby_inc_012_what_the_agent_lets_in(
        &mut stage.agent,
        &stage.docker,
        &stage.net,
        DRIVER,
        settle,
    );
}
