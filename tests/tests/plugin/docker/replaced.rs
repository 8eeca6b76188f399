//! The agent is replaced by another build while containers talk.

use bascule_tests::dockerd::cases::lives;

use crate::stage::{DRIVER, Stage, settle};

#[test]
fn moby_lc_016_a_newer_build_takes_over_and_no_packet_is_lost() {
    let mut stage = Stage::start(&[]);
    lives::moby_lc_016_a_newer_build_takes_over_and_no_packet_is_lost(
        &mut stage.agent,
        &stage.docker,
        &stage.net,
        DRIVER,
        settle,
    );
}
