//! A log of connections on disk: a line of JSON for each that has ended, and for each drop that is told. The file gives
//! way to a new one when it is full, and the oldest one goes: the disk that it takes is bounded.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::sync::broadcast::{Receiver, error::RecvError};

use super::{events::Events, seen::Seen};

/// Bytes of a file before it gives way.
const FULL: u64 = 64 << 20;
/// Files of the past that are kept beside it.
const KEPT: u32 = 3;

/// Writes what happens from now on; ends with an error when the file cannot be made.
pub async fn log(events: Events, path: PathBuf) -> io::Result<()> {
    let _watcher = events.watch_connections();
    let mut heard = events.subscribe();
    let mut file = Rotating::open(path, FULL)?;
    loop {
        let mut batch = Vec::new();
        if !gather(&mut heard, &mut batch).await {
            return Ok(());
        }
        // A file system may take its time: not on the agent's own threads.
        let written = tokio::task::spawn_blocking(move || {
            let result = file.write(&batch);
            (file, result)
        });
        let (back, result) = written.await.map_err(io::Error::other)?;
        file = back;
        if let Err(error) = result {
            file.lost += 1;
            tracing::warn!(path = %file.path.display(), %error, "the log of connections has lost lines");
        }
    }
}

/// Waits for something to write, and takes what else there is; false when nothing will come.
async fn gather(heard: &mut Receiver<Arc<Seen>>, batch: &mut Vec<u8>) -> bool {
    let mut next = heard.recv().await;
    loop {
        match next {
            Ok(seen) => add(batch, &seen),
            Err(RecvError::Lagged(count)) => {
                add(batch, &Seen::lost(count, "events that came faster than they were written"));
            }
            Err(RecvError::Closed) => return !batch.is_empty(),
        }
        let Ok(more) = heard.try_recv() else { return true };
        next = Ok(more);
    }
}

/// Adds a line, if it is one for the log: a connection's end has its beginning in it.
fn add(batch: &mut Vec<u8>, seen: &Seen) {
    if !matches!(seen.kind.as_str(), "close" | "drop" | "lost") {
        return;
    }
    // What is in packets is nobody's business later.
    let seen = Seen { frame: String::new(), ..seen.clone() };
    if let Ok(line) = serde_json::to_vec(&seen) {
        batch.extend(line);
        batch.push(b'\n');
    }
}

/// A file that gives way to a new one when it is full.
#[derive(Debug)]
struct Rotating {
    path: PathBuf,
    file: File,
    written: u64,
    full: u64,
    lost: u64,
}

impl Rotating {
    fn open(path: PathBuf, full: u64) -> io::Result<Self> {
        let file = append(&path)?;
        let written = file.metadata()?.len();
        Ok(Self { path, file, written, full, lost: 0 })
    }

    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        if self.written > 0 && self.written + lines.len() as u64 > self.full {
            self.rotate()?;
        }
        if self.lost > 0 {
            let mut told = Vec::new();
            add(&mut told, &Seen::lost(self.lost, "batches of lines that could not be written"));
            self.put(&told)?;
            self.lost = 0;
        }
        self.put(lines)
    }

    fn put(&mut self, lines: &[u8]) -> io::Result<()> {
        self.file.write_all(lines)?;
        self.written += lines.len() as u64;
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        for age in (1..KEPT).rev() {
            rename(&aged(&self.path, age), &aged(&self.path, age + 1))?;
        }
        rename(&self.path, &aged(&self.path, 1))?;
        self.file = append(&self.path)?;
        self.written = 0;
        Ok(())
    }
}

/// Who talks to whom is for root to read.
fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

fn aged(path: &Path, age: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{age}"));
    PathBuf::from(name)
}

fn rename(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn n48_the_log_takes_no_more_than_its_share_of_the_disk() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("flows.jsonl");
        let mut file = Rotating::open(path.clone(), 100).expect("a file");
        for number in 0..100 {
            file.write(format!("{number:>29}\n").as_bytes()).expect("written");
        }
        let mut names: Vec<_> = fs::read_dir(dir.path())
            .expect("a directory")
            .map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"))
            .collect();
        names.sort();
        assert_eq!(names, ["flows.jsonl", "flows.jsonl.1", "flows.jsonl.2", "flows.jsonl.3"]);
        let newest = fs::read_to_string(&path).expect("text");
        assert!(newest.ends_with("99\n") && newest.len() <= 100, "{newest}");
        assert!(fs::read_to_string(aged(&path, 1)).expect("text").ends_with("98\n"));
        // A new agent goes on where the last one ended.
        let mut file = Rotating::open(path.clone(), 100).expect("a file");
        file.write(b"more\n").expect("written");
        assert!(fs::read_to_string(&path).expect("text").ends_with("99\nmore\n"));
    }

    #[test]
    fn p84_ends_and_drops_are_logged_without_frames() {
        let mut batch = Vec::new();
        for kind in ["open", "lifecycle", "drop", "close"] {
            let seen = Seen { kind: kind.into(), frame: "abcd".into(), ..Seen::default() };
            add(&mut batch, &seen);
        }
        let text = String::from_utf8(batch).expect("text");
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(!text.contains("abcd") && text.contains("\"close\""), "{text}");
    }
}
