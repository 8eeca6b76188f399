//! A log of connections on disk: a line of JSON for each that has ended, and for each drop that is told. The file gives
//! way to a new one when it is full, and the oldest one goes: the disk that it takes is bounded.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::broadcast::{
    Receiver,
    error::{RecvError, TryRecvError},
};

use super::{events::Events, seen::Seen};

/// Bytes of a file before it gives way.
const FULL: u64 = 64 << 20;
/// Files of the past that are kept beside it.
const KEPT: u32 = 3;
/// Drops that have lines, a second: more would have the log of connections forgotten within minutes. The others are
/// counted.
const DROPS: u32 = 100;
const SECOND: Duration = Duration::from_secs(1);

/// Writes what happens from now on, until `stop` completes; ends with an error when the file cannot be made.
pub async fn log(events: Events, path: PathBuf, stop: impl Future<Output = ()>) -> io::Result<()> {
    let _watcher = events.watch_connections();
    let mut heard = events.subscribe();
    let mut file = Rotating::open(path, FULL)?;
    let mut drops = Drops::new(Instant::now());
    let (mut stop, mut stopping) = (pin!(stop), false);
    while !stopping {
        let mut batch = Vec::new();
        tokio::select! {
            more = gather(&mut heard, &mut drops, &mut batch) => stopping = !more,
            // What has been told is written.
            () = &mut stop => {
                stopping = true;
                if !heard.is_empty() {
                    gather(&mut heard, &mut drops, &mut batch).await;
                }
            }
        }
        // A file system may take its time: not on the agent's own threads.
        let written = tokio::task::spawn_blocking(move || {
            let result = file.write(&batch);
            (file, result)
        });
        let (back, result) = written.await.map_err(io::Error::other)?;
        file = back;
        if let Err(error) = result {
            tracing::warn!(path = %file.path.display(), %error, lost = file.lost, "the log of connections has lost lines");
        }
    }
    Ok(())
}

/// Waits for something to write, and takes what else there is; false when nothing more will come.
async fn gather(heard: &mut Receiver<Arc<Seen>>, drops: &mut Drops, batch: &mut Vec<u8>) -> bool {
    let limit = if drops.left_out > 0 { SECOND } else { Duration::MAX };
    let Ok(mut next) = tokio::time::timeout(limit, heard.recv()).await else {
        drops.tell(Instant::now(), batch);
        return true;
    };
    loop {
        match next {
            Ok(seen) if seen.kind == "drop" && !drops.take(Instant::now(), batch) => {}
            Ok(seen) => add(batch, &seen),
            Err(RecvError::Lagged(count)) => {
                add(batch, &Seen::lost(count, "events that came faster than they were written"));
            }
            Err(RecvError::Closed) => return false,
        }
        next = match heard.try_recv() {
            Ok(seen) => Ok(seen),
            Err(TryRecvError::Lagged(count)) => Err(RecvError::Lagged(count)),
            Err(TryRecvError::Empty | TryRecvError::Closed) => return true,
        };
    }
}

/// How many drops may have lines now.
struct Drops {
    left: u32,
    since: Instant,
    left_out: u64,
}

impl Drops {
    const fn new(now: Instant) -> Self {
        Self { left: DROPS, since: now, left_out: 0 }
    }

    /// Whether one more may.
    fn take(&mut self, now: Instant, batch: &mut Vec<u8>) -> bool {
        self.tell(now, batch);
        let may = self.left > 0;
        self.left -= u32::from(may);
        self.left_out += u64::from(!may);
        may
    }

    /// Begins a second, with a line for those that had none in the one before.
    fn tell(&mut self, now: Instant, batch: &mut Vec<u8>) {
        if now.duration_since(self.since) < SECOND {
            return;
        }
        if self.left_out > 0 {
            let what = format!("drops beyond {DROPS} a second, which metrics have counted");
            add(batch, &Seen::lost(self.left_out, &what));
        }
        *self = Self::new(now);
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
        let mut whole = Vec::new();
        if self.lost > 0 {
            add(&mut whole, &Seen::lost(self.lost, "lines that could not be written"));
        }
        whole.extend(lines);
        let is_full = self.written > 0 && self.written + whole.len() as u64 > self.full;
        let rotated = if is_full { self.rotate() } else { Ok(()) };
        let result = rotated.and_then(|()| self.put(&whole));
        self.lost = match result {
            Ok(()) => 0,
            Err(_) => self.lost + lines.iter().filter(|byte| **byte == b'\n').count() as u64,
        };
        result
    }

    /// Writes all of it, or nothing: half a line would spoil the next one, too.
    fn put(&mut self, lines: &[u8]) -> io::Result<()> {
        if let Err(error) = self.file.write_all(lines) {
            self.file.set_len(self.written)?;
            return Err(error);
        }
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

/// Returns where a log's files are, the newest first; not all of them have to be there.
pub(super) fn files(path: &Path) -> Vec<PathBuf> {
    let past = (1..=KEPT).map(|age| aged(path, age));
    std::iter::once(path.to_owned()).chain(past).collect()
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

    #[test]
    fn p84_a_flood_of_drops_leaves_room_for_connections_and_is_counted() {
        let begin = Instant::now();
        let (mut drops, mut batch) = (Drops::new(begin), Vec::new());
        let told = (0..1_000).filter(|_| drops.take(begin, &mut batch)).count();
        assert_eq!((told, batch.len()), (DROPS as usize, 0));
        assert!(drops.take(begin + SECOND, &mut batch));
        let line: Seen = serde_json::from_slice(&batch).expect("a line");
        assert_eq!((line.kind.as_str(), line.count), ("lost", 1_000 - u64::from(DROPS)));
    }

    #[tokio::test]
    async fn p84_what_came_too_fast_is_a_line_wherever_it_is_noticed() {
        let sender = tokio::sync::broadcast::Sender::new(4);
        let mut heard = sender.subscribe();
        let close = || Arc::new(Seen { kind: "close".into(), ..Seen::default() });
        sender.send(close()).expect("a listener");
        let mut drops = Drops::new(Instant::now());
        // The first is taken alone, and the next ones overrun the room before they are.
        let first = heard.recv().await.expect("one");
        assert_eq!(first.kind, "close");
        (0..10).for_each(|_| drop(sender.send(close())));
        let mut batch = Vec::new();
        assert!(gather(&mut heard, &mut drops, &mut batch).await);
        let lines: Vec<Seen> = batch
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).expect("a line"))
            .collect();
        let lost: u64 = lines.iter().map(|line| line.count).sum();
        let told = lines.iter().filter(|line| line.kind == "close").count();
        assert_eq!(lost + told as u64, 10, "{lines:?}");
        assert!(lost > 0);
    }

    #[test]
    fn p84_a_full_disk_spoils_no_line_and_is_told_when_there_is_room() {
        let path = PathBuf::from("/dev/full");
        let mut file = Rotating::open(path, u64::MAX).expect("a device");
        file.write(b"one\ntwo\n").expect_err("there is no room");
        assert_eq!(file.lost, 2);
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("flows.jsonl");
        file.file = append(&path).expect("a file");
        file.write(b"three\n").expect("there is room");
        let text = fs::read_to_string(&path).expect("text");
        let mut lines = text.lines();
        let lost: Seen = serde_json::from_str(lines.next().expect("a line")).expect("JSON");
        assert_eq!((lost.kind.as_str(), lost.count, lines.next()), ("lost", 2, Some("three")));
    }
}
