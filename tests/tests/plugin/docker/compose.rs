//! docker-compose, with a file that is as it always was but for the driver.

use bascule_tests::dockerd::cases::compose;

use crate::stage::{DRIVER, Stage, settle};

#[test]
fn a_compose_file_works_with_the_driver() {
    let mut stage = Stage::start(&[]);
    compose::a_compose_file_works(&stage.agent, &mut stage.docker, &stage.net, DRIVER, settle);
}
