//! The oracle: the same questions by Docker's iptables and by ours, and every difference explained.
//!
//! `docs/oracle.md` is what this writes with `BASCULE_TEST_RECORD=1`, and what it demands otherwise.

mod explained;
mod matrix;
mod page;
mod stage;

use std::{env, fs, path::Path};

use bascule_tests::{Dockerd, probe};
use matrix::{Answers, Cell};
use stage::{Engine, Stage};

/// The engine that the page is about.
const VERSION: &str = "20.10";

/// A question that the two answer differently.
pub struct Difference {
    /// The question.
    pub cell: Cell,
    /// What came of it by Docker.
    pub docker: String,
    /// What came of it by us.
    pub bascule: String,
}

#[test]
fn every_difference_from_docker_is_explained() {
    probe::many_sockets();
    let bascule = Stage::new(Engine::bascule);
    let docker = Stage::new(|net| Engine::docker(net, check_version));
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/oracle.md");
    let recorded = fs::read_to_string(&file).unwrap_or_default();
    let mut page = describe(&bascule, &docker);
    if page.as_deref() != Ok(&recorded) {
        // Once more: a machine with much else to do may have lost a packet.
        page = describe(&bascule, &docker);
    }
    let page = page.unwrap_or_else(|unexplained| panic!("{unexplained}"));
    if env::var_os("BASCULE_TEST_RECORD").is_some() {
        fs::write(&file, &page).expect("docs/oracle.md");
    } else if page != recorded {
        panic!(
            "docs/oracle.md says otherwise; record with BASCULE_TEST_RECORD=1 what is wanted:\n{}",
            page::changes(&recorded, &page)
        );
    }
}

/// Asks both and describes the differences.
fn describe(bascule: &Stage, docker: &Stage) -> Result<String, String> {
    let (ours, theirs) = (matrix::ask(bascule), matrix::ask(docker));
    let differences = differences(&ours, &theirs);
    page::write(ours.len(), differences)
}

fn differences(ours: &Answers, theirs: &Answers) -> Vec<Difference> {
    assert!(ours.keys().eq(theirs.keys()), "both were asked the same");
    let pairs = ours.iter().zip(theirs.values());
    let different = pairs.filter(|((_, bascule), docker)| bascule != docker);
    different
        .map(|((cell, bascule), docker)| Difference {
            cell: cell.clone(),
            docker: docker.clone(),
            bascule: bascule.clone(),
        })
        .collect()
}

fn check_version(docker: &Dockerd) {
    let version = docker.version();
    assert!(
        version.starts_with(VERSION),
        "docs/oracle.md is about Docker {VERSION}, and this is {version}: Debian 12's docker.io is the one that the \
         page can be verified with"
    );
}
