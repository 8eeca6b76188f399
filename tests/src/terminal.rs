//! A program on a terminal of its own, and what is seen there.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    num::NonZero,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

use nix::{
    pty::{Winsize, openpty},
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{process, wait};

/// A running program, and the screen that it draws on.
pub struct Terminal {
    child: Child,
    master: File,
    parser: Arc<Mutex<vt100::Parser>>,
}

impl Terminal {
    /// Starts a command on a terminal with so many rows and columns.
    pub fn start(command: &mut Command, rows: u16, columns: u16) -> Self {
        let ends = openpty(Some(&size(rows, columns)), None).expect("a terminal");
        let slave = || Stdio::from(ends.slave.try_clone().expect("the terminal's end"));
        command.stdin(slave()).stdout(slave()).stderr(slave());
        let child = command.spawn().expect("start on a terminal");
        // The command has the only ones: what it leaves ends what is read.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        drop(ends.slave);
        let master = File::from(ends.master);
        let parser = Arc::new(Mutex::new(vt100::Parser::new(large(rows), large(columns), 0)));
        let (mut read, seen) = (master.try_clone().expect("the terminal"), Arc::clone(&parser));
        thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(count @ 1..) = read.read(&mut chunk) {
                seen.lock().unwrap_or_else(PoisonError::into_inner).process(&chunk[..count]);
            }
        });
        Self { child, master, parser }
    }

    fn parser(&self) -> MutexGuard<'_, vt100::Parser> {
        self.parser.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is on the screen.
    pub fn text(&self) -> String {
        self.parser().screen().contents()
    }

    /// Whether the program has the screen for itself.
    pub fn is_full_screen(&self) -> bool {
        self.parser().screen().alternate_screen()
    }

    /// Whether any cell has a colour.
    pub fn has_colours(&self) -> bool {
        let parser = self.parser();
        let screen = parser.screen();
        let (rows, columns) = screen.size();
        let (rows, columns) = (rows.get(), columns.get());
        (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column))).any(|(r, c)| {
            screen.cell(r, c).is_some_and(|cell| {
                cell.fgcolor() != vt100::Color::Default || cell.bgcolor() != vt100::Color::Default
            })
        })
    }

    /// Whether the terminal is as a shell has it: it echoes, and reads lines.
    pub fn is_sane(&self) -> bool {
        use nix::sys::termios::{LocalFlags, tcgetattr};
        let flags = tcgetattr(&self.master).expect("the terminal's settings").local_flags;
        flags.contains(LocalFlags::ECHO | LocalFlags::ICANON | LocalFlags::ISIG)
            && !self.is_full_screen()
            && !self.parser().screen().hide_cursor()
    }

    /// Types.
    pub fn keys(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).expect("type");
    }

    /// Changes the window's size.
    pub fn resize(&mut self, rows: u16, columns: u16) {
        self.parser().screen_mut().set_size(large(rows), large(columns));
        let size = size(rows, columns);
        // SAFETY: the request reads one window size, which lives until it returns.
        let done = unsafe {
            libc::ioctl(
                std::os::fd::AsRawFd::as_raw_fd(&self.master),
                libc::TIOCSWINSZ,
                &raw const size,
            )
        };
        assert_eq!(done, 0, "the window keeps its size");
        // It is not the program's controlling terminal, whose kernel would tell it.
        self.signal(Signal::SIGWINCH);
    }

    /// Sends the program a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).expect("a signal");
    }

    /// Waits until the screen is as wanted, and returns it.
    #[track_caller]
    pub fn wait(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        let start = std::time::Instant::now();
        loop {
            let text = self.text();
            if wanted(&text) {
                return text;
            }
            assert!(start.elapsed() < wait::SOON, "waited in vain for {what}; seen was:\n{text}");
            thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    /// Waits for the program's end; returns its exit code.
    pub fn end(&mut self) -> i32 {
        process::code(process::wait(&mut self.child, wait::SOON).expect("the program ends"))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn large(number: u16) -> NonZero<u16> {
    NonZero::new(number).expect("a screen has rows and columns")
}

const fn size(rows: u16, columns: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}
