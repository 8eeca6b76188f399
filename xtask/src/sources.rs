//! Rules about the text of files: what a file opens with, and what none may say.

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Context as _, Result, bail};

use crate::sh;

/// Starts of paths that exist on one machine only. Spelled in two parts so that this file passes.
const MACHINE_PATHS: [&str; 4] =
    [concat!("/wo", "rk/"), concat!("/tm", "p/w/"), concat!("/ho", "me/"), concat!("/ro", "ot/")];

/// Names with so many underscores that a page quotes are names of tests.
const UNDERSCORES: usize = 4;

/// Checks every file that is, or could be, checked in.
pub fn check() -> Result<()> {
    let mut wrong = Vec::new();
    let mut functions = BTreeSet::new();
    let mut pages = Vec::new();
    for path in files()? {
        let Ok(text) = fs::read_to_string(sh::root().join(&path)) else { continue };
        wrong.extend(faults(&path, &text));
        if path.ends_with(".rs") {
            functions.extend(function_names(&text).map(str::to_owned));
        } else if path.starts_with("docs/") && path.ends_with(".md") {
            pages.push((path, text));
        }
    }
    for (path, text) in &pages {
        let missing = quoted_tests(text).filter(|name| !functions.contains(*name));
        wrong.extend(missing.map(|name| format!("{path}: names a test that is not there: {name}")));
    }
    if !wrong.is_empty() {
        bail!("{}", wrong.join("\n        "));
    }
    Ok(())
}

/// The files of the checkout that git does not ignore, relative to its top.
pub fn files() -> Result<Vec<String>> {
    let list = sh::output(sh::command("git").args([
        "ls-files",
        "--cached",
        "--others",
        "--exclude-standard",
    ]))
    .context("cannot list the files of the checkout")?;
    Ok(list.lines().map(str::to_owned).collect())
}

/// Names of functions in a source.
fn function_names(text: &str) -> impl Iterator<Item = &str> {
    let starts = text.match_indices("fn ").map(|(at, word)| &text[at + word.len()..]);
    starts.map(|rest| rest.split(['(', '<', ' ']).next().unwrap_or_default())
}

/// Names of tests that a page quotes.
fn quoted_tests(text: &str) -> impl Iterator<Item = &str> {
    let is_name = |word: &&str| {
        let plain = word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        plain && word.matches('_').count() >= UNDERSCORES
    };
    text.split('`').skip(1).step_by(2).filter(is_name)
}

fn faults(path: &str, text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if Path::new(path).extension().is_some_and(|e| e == "rs") && !text.starts_with("//!") {
        wrong.push(format!("{path}:1: does not open with a `//!` line that says what lives here"));
    }
    for (number, line) in text.lines().enumerate() {
        if let Some(word) = MACHINE_PATHS.iter().find(|word| line.contains(*word)) {
            wrong.push(format!("{path}:{}: names a path of one machine: {word}", number + 1));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_an_opening_line_is_found() {
        assert_eq!(faults("a.rs", "use x;\n").len(), 1);
        assert!(faults("a.rs", "//! Things.\n").is_empty());
        assert!(faults("a.sh", "set -e\n").is_empty());
    }

    #[test]
    fn tests_that_a_page_names_are_found() {
        let page = "By `a_test_of_some_kind`, for `-o` and `net_dev_x`, and `the_test_of_ours_is`.";
        let found: Vec<_> = quoted_tests(page).collect();
        assert_eq!(found, ["a_test_of_some_kind", "the_test_of_ours_is"]);
        let source = "pub fn a_test_of_some_kind() {}\nfn of<T>(t: T) {}";
        assert_eq!(function_names(source).collect::<Vec<_>>(), ["a_test_of_some_kind", "of"]);
    }

    #[test]
    fn paths_of_one_machine_are_found_with_their_line() {
        let text = format!("//! Things.\n// see {}main\n", MACHINE_PATHS[0]);
        let wrong = faults("a.rs", &text);
        assert_eq!(wrong.len(), 1);
        assert!(wrong[0].starts_with("a.rs:2:"), "{wrong:?}");
    }
}
