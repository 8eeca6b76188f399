//! Processors: who runs where, and how much of them is left.

use std::{
    hint, io, mem,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Instant,
};

use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};

/// Clients run here, and with them whatever a sender's packets meet on their way.
pub const CLIENT: usize = 0;
/// Servers run here.
pub const SERVER: usize = 1;

/// Keeps the calling thread, and those that it starts, on one processor.
pub fn pin(cpu: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
}

/// Has sleeps of the calling thread end when they are due.
pub fn exact_timers() -> io::Result<()> {
    // SAFETY: the call takes a number.
    let set = unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1) };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Turns of an empty loop between two looks at the clock's end.
const TURNS: u32 = 256;

/// Spinners of the lowest priority, one a processor: what they cannot do, somebody else did. Neither the tick's sampling
/// nor the task that a soft interrupt happens to meet blurs that, and no processor is halted meanwhile.
pub struct Spinners {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<io::Result<Spun>>>,
}

/// What a spinner did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spun {
    /// How often it turned.
    pub turns: f64,
    /// In how many seconds.
    pub seconds: f64,
}

impl Spun {
    /// Seconds that others had, by the turns a second beside nothing.
    pub fn used(self, free: f64) -> f64 {
        self.seconds - self.turns / free
    }
}

impl Spinners {
    /// Starts them.
    pub fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let spinner = |cpu| {
            let stop = Arc::clone(&stop);
            thread::spawn(move || spin(cpu, &stop))
        };
        let threads = [CLIENT, SERVER].map(spinner).into();
        Self { stop, threads }
    }

    /// Ends them.
    pub fn stop(self) -> io::Result<Vec<Spun>> {
        self.stop.store(true, Ordering::Relaxed);
        let join = |thread: JoinHandle<io::Result<Spun>>| {
            thread.join().unwrap_or_else(|_| Err(io::Error::other("a spinner panicked")))
        };
        self.threads.into_iter().map(join).collect()
    }
}

fn spin(cpu: usize, stop: &AtomicBool) -> io::Result<Spun> {
    pin(cpu)?;
    idle_priority()?;
    let begin = Instant::now();
    let mut turns = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        for turn in 0..TURNS {
            hint::black_box(turn);
        }
        turns += 1;
    }
    Ok(Spun { turns: turns as f64, seconds: begin.elapsed().as_secs_f64() })
}

fn idle_priority() -> io::Result<()> {
    // SAFETY: all zero is priority zero, the only one that this class has.
    let parameters = unsafe { mem::zeroed::<libc::sched_param>() };
    // SAFETY: the parameters are alive.
    let set = unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const parameters) };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
