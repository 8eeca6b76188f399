//! Reads the flow log back: its files from the oldest to the newest, and what is added to them from then on.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, BufRead as _, BufReader},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::SystemTime,
};

use super::flowlog;

/// A line that is longer is none of ours: it is left out rather than kept in memory.
const LONGEST: usize = 1 << 20;

/// The lines of a flow log. Its files may give way to new ones while it is read.
#[derive(Debug)]
pub struct Past {
    path: PathBuf,
    /// What is read, and after it.
    files: VecDeque<BufReader<File>>,
    /// The beginning of a line whose rest is not written yet.
    begun: Vec<u8>,
    too_long: bool,
}

impl Past {
    /// Opens the files that were written to at `since` or after it.
    pub fn open(path: &Path, since: Option<SystemTime>) -> io::Result<Self> {
        let mut files = newer(path, None)?;
        if files.is_empty() {
            return Err(io::ErrorKind::NotFound.into());
        }
        while let Some(since) = since
            && files.len() > 1
            && files[0].get_ref().metadata()?.modified()? < since
        {
            files.pop_front();
        }
        Ok(Self { path: path.to_owned(), files, begun: Vec::new(), too_long: false })
    }

    /// Returns the next whole line, without its end; nothing where there is no more now.
    pub fn line(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            if self.read()? {
                return Ok(Some(std::mem::take(&mut self.begun)));
            }
            if self.files.len() < 2 {
                let at = self.files.front().map(|file| inode(file.get_ref())).transpose()?;
                let newer = newer(&self.path, at)?;
                if newer.is_empty() {
                    return Ok(None);
                }
                self.files.extend(newer);
                // What was written to it before it gave way is read before the next.
                continue;
            }
            self.files.pop_front();
            self.begun.clear();
        }
    }

    /// Reads on in the first file; tells whether there is a whole line now.
    fn read(&mut self) -> io::Result<bool> {
        let Some(file) = self.files.front_mut() else { return Ok(false) };
        loop {
            let ready = file.fill_buf()?;
            if ready.is_empty() {
                return Ok(false);
            }
            let end = ready.iter().position(|byte| *byte == b'\n');
            let taken = end.map_or(ready.len(), |at| at + 1);
            self.too_long |= self.begun.len() + taken > LONGEST;
            if self.too_long {
                self.begun.clear();
            } else {
                self.begun.extend(&ready[..end.unwrap_or(taken)]);
            }
            file.consume(taken);
            if end.is_some() {
                self.too_long = false;
                return Ok(true);
            }
        }
    }
}

/// Opens the files of a log that are newer than one of them, the oldest first. The newest is opened first: one that gives
/// way meanwhile is found again under its next name, and known by its inode.
fn newer(path: &Path, than: Option<u64>) -> io::Result<VecDeque<BufReader<File>>> {
    let mut found = VecDeque::new();
    let mut last = None;
    for path in flowlog::files(path) {
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let inode = inode(&file)?;
        if than == Some(inode) {
            break;
        }
        if last.replace(inode) != Some(inode) {
            found.push_front(BufReader::new(file));
        }
    }
    Ok(found)
}

fn inode(file: &File) -> io::Result<u64> {
    Ok(file.metadata()?.ino())
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write as _};

    use super::*;

    fn lines(past: &mut Past) -> Vec<String> {
        let next = || past.line().expect("readable").map(|l| String::from_utf8(l).expect("text"));
        std::iter::from_fn(next).collect()
    }

    fn add(path: &Path, text: &str) {
        let mut file = File::options().create(true).append(true).open(path).expect("a file");
        file.write_all(text.as_bytes()).expect("written");
    }

    #[test]
    fn p81_a_log_is_read_from_its_oldest_file_to_its_newest_and_on() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("flows.jsonl");
        assert_eq!(Past::open(&path, None).expect_err("no log").kind(), io::ErrorKind::NotFound);
        let aged = flowlog::files(&path);
        for (file, text) in aged.iter().rev().zip(["one\ntwo\n", "three\n", "", "four\nfi"]) {
            add(file, text);
        }
        let mut past = Past::open(&path, None).expect("a log");
        assert_eq!(lines(&mut past), ["one", "two", "three", "four"]);
        add(&path, "ve\nsix\n");
        assert_eq!(lines(&mut past), ["five", "six"]);
        // What is written before a file gives way, and to the next ones, is all there.
        add(&path, "seven\n");
        for pair in aged.windows(2).rev() {
            fs::rename(&pair[0], &pair[1]).expect("another name");
        }
        add(&path, "eight\n");
        assert_eq!(lines(&mut past), ["seven", "eight"]);
        for (from, to) in [(0, 1), (1, 2)].iter().rev() {
            fs::rename(&aged[*from], &aged[*to]).expect("another name");
        }
        add(&aged[1], "nine\n");
        add(&path, "ten\n");
        assert_eq!(lines(&mut past), ["nine", "ten"]);
        assert_eq!(lines(&mut past), [] as [&str; 0]);
    }

    #[test]
    fn p81_old_files_are_not_read_and_endless_lines_not_kept() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("flows.jsonl");
        let old = &flowlog::files(&path)[1];
        add(old, "old\n");
        let now = SystemTime::now();
        let before = now - std::time::Duration::from_secs(100);
        File::options().append(true).open(old).expect("it").set_modified(before).expect("old");
        add(&path, &format!("{}\nnew\n", "x".repeat(3 * LONGEST)));
        let mut past = Past::open(&path, Some(now)).expect("a log");
        assert_eq!(lines(&mut past), ["", "new"]);
        assert_eq!(lines(&mut Past::open(&path, None).expect("a log")), ["old", "", "new"]);
    }
}
