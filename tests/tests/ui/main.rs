//! The web page in a real browser, over a real agent with traffic.

mod guarded;
mod page;
mod tables;

use std::{
    path::PathBuf,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use bascule_tests::{Agent, Topology, agent::Settings, browser::Browser, process};

/// Where the page is.
const PAGE: &str = "http://127.0.0.1:9478/";

/// A host with an agent that serves the page.
fn stage() -> (Agent, Topology) {
    let net = Topology::new();
    let agent = Agent::start_with(&net.host, Settings::default().arg(&["--ui"]));
    (agent, net)
}

/// Where pictures are put, to be looked at.
fn pictures() -> PathBuf {
    let exe = std::env::current_exe().expect("path of the test");
    let dir = exe.ancestors().nth(3).expect("target directory").join("pictures");
    std::fs::create_dir_all(&dir).expect("a directory for pictures");
    dir
}

/// Makes the window as narrow as where the host has no room beside its networks, and looks where it is.
#[track_caller]
fn narrow(browser: &mut Browser, height: u32) {
    let window = serde_json::json!({
        "width": 600, "height": height, "deviceScaleFactor": 1, "mobile": false,
    });
    browser.call("Emulation.setDeviceMetricsOverride", window);
    browser.wait(
        "the host above its networks",
        "(() => { const box = (of) => document.querySelector(`#picture ${of} .panel`)?.getBBox(); \
         const [host, network] = [box('.host'), box('.network')]; \
         return !!host && host.width > 300 && host.y + host.height < network.y; })()",
    );
    let picture = browser.run("document.querySelector('#picture svg').textContent");
    let picture = picture.as_str().expect("a picture");
    for wanted in ["Outside", "Host", "up0", "0.0.0.0:8080/tcp"] {
        assert!(picture.contains(wanted), "{wanted}: {picture}");
    }
    let beyond = "document.querySelector('#picture svg').getBBox().width > document.querySelector('#picture').clientWidth";
    assert_eq!(browser.run(beyond), false);
}

/// Traffic, until this is dropped.
struct Traffic {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Traffic {
    /// Has a container ping addresses again and again.
    fn new(from: &bascule_tests::Container, targets: &[String]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let threads = targets.iter().cloned().map(|target| {
            let told = Arc::clone(&stop);
            from.ns.spawn(move || {
                while !told.load(Ordering::Relaxed) {
                    let options = ["-c", "5", "-i", "0.02", "-W", "0.1", "-s", "1200"];
                    let mut ping = Command::new("ping");
                    process::run(ping.args(options).arg(&target), process::LIMIT);
                }
            })
        });
        Self { threads: threads.collect(), stop }
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}
