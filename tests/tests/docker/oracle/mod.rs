//! The oracle: the same questions through Docker's iptables and through ours, and every difference explained.
//!
//! `docs/oracle.md` is what this writes with `BASCULE_TEST_RECORD=1`, and what it demands otherwise.

mod explained;
mod letters;
mod matrix;
mod page;
mod stage;

use std::{env, fs, path::Path};

use bascule_tests::probe;
use matrix::{Answers, Cell};
use stage::{Engine, Proxy, Stage};

/// A question that the two answer differently.
pub struct Difference {
    /// Which of the two Dockers was asked.
    pub proxy: Proxy,
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
    let stages = [
        Stage::new(Engine::bascule),
        Stage::new(|net| Engine::docker(net, Proxy::On)),
        Stage::new(|net| Engine::docker(net, Proxy::Off)),
    ];
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/oracle.md");
    let recorded = fs::read_to_string(&file).unwrap_or_default();
    let mut page = describe(&stages);
    if page.as_deref() != Ok(&recorded) {
        // Once more: a machine with much else to do may have lost a packet.
        page = describe(&stages);
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

/// Asks all and describes the differences.
fn describe(stages: &[Stage; 3]) -> Result<String, String> {
    let [ours, with, without] = stages.each_ref().map(matrix::ask);
    let differences = [(Proxy::On, with), (Proxy::Off, without)]
        .map(|(proxy, theirs)| differences(proxy, &ours, &theirs));
    page::write(ours.len(), differences)
}

fn differences(proxy: Proxy, ours: &Answers, theirs: &Answers) -> Vec<Difference> {
    assert!(ours.keys().eq(theirs.keys()), "both were asked the same");
    let pairs = ours.iter().zip(theirs.values());
    let different = pairs.filter(|((_, bascule), docker)| bascule != docker);
    different
        .map(|((cell, bascule), docker)| Difference {
            proxy,
            cell: cell.clone(),
            docker: docker.clone(),
            bascule: bascule.clone(),
        })
        .collect()
}
