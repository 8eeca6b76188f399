//! A compose file, unchanged, by Debian's `docker-compose`.

use bascule_tests::dockerd::cases::compose;

use crate::{Stage, stage::settle};

#[test]
fn a_compose_file_works_unchanged() {
    let mut stage = Stage::adopted(&["--live-restore"]);
    compose::a_compose_file_works(&stage.agent, &mut stage.docker, &stage.net, "", settle);
}
