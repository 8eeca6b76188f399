//! A real Chromium without a window, led over the DevTools protocol by a pair of pipes.

use std::{
    collections::VecDeque,
    fs::File,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::Stdio,
    sync::mpsc::{self, Receiver},
    thread,
    time::{Duration, Instant},
};

use nix::sys::stat::Mode;
use serde_json::{Value, json};

use crate::{Netns, process::Killed, wait};

/// How long the browser may take for an answer on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A browser with one page open.
pub struct Browser {
    _child: Killed,
    commands: File,
    answers: Receiver<Value>,
    /// What happened, and was not asked for yet.
    events: VecDeque<Value>,
    session: String,
    next: u64,
    _dir: tempfile::TempDir,
}

impl Browser {
    /// Starts it in a namespace, with a window of this size.
    pub fn start(ns: &Netns, width: u32, height: u32) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let pipe = |name: &str| {
            let path = dir.path().join(name);
            nix::unistd::mkfifo(&path, Mode::S_IRWXU).expect("a pipe");
            path
        };
        let (commands, answers) = (pipe("commands"), pipe("answers"));
        // It reads commands from descriptor 3, and answers at descriptor 4.
        let script = "exec chromium \"$@\" 3<commands 4>answers";
        let mut command = ns.command("sh");
        command.args(["-c", script, "chromium", "--headless", "--no-sandbox", "--disable-gpu"]);
        command.args(["--remote-debugging-pipe", "--no-first-run", "--disable-dev-shm-usage"]);
        command.args(["--disable-background-networking", "--disable-component-update"]);
        command.args(["--disable-sync", "--no-default-browser-check", "--hide-scrollbars"]);
        command.arg(format!("--window-size={width},{height}"));
        command.arg(format!("--user-data-dir={}", dir.path().join("profile").display()));
        command.arg("about:blank").current_dir(dir.path()).env("HOME", dir.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = Killed(command.spawn().expect("chromium (Debian's package chromium)"));
        // Each waits until the browser opens its end.
        let commands = File::options().write(true).open(commands).expect("a pipe to the browser");
        let answers = listen(File::open(answers).expect("a pipe from the browser"));
        let mut browser = Self {
            _child: child,
            commands,
            answers,
            events: VecDeque::new(),
            session: String::new(),
            next: 0,
            _dir: dir,
        };
        browser.attach();
        browser
    }

    fn attach(&mut self) {
        let target = wait::wait_for("the browser's page", PATIENCE, || {
            let targets = self.call("Target.getTargets", json!({}));
            let targets = targets["targetInfos"].as_array().expect("targets").clone();
            targets.into_iter().find(|target| target["type"] == "page")
        });
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = self.call("Target.attachToTarget", attach);
        self.session = attached["sessionId"].as_str().expect("a session").to_owned();
        for domain in ["Page.enable", "Runtime.enable", "Network.enable", "Log.enable"] {
            self.call(domain, json!({}));
        }
    }

    /// Asks for something, and returns what comes back.
    #[track_caller]
    pub fn call(&mut self, method: &str, params: Value) -> Value {
        self.next += 1;
        let mut command = json!({ "id": self.next, "method": method, "params": params });
        if !self.session.is_empty() {
            command["sessionId"] = self.session.clone().into();
        }
        self.commands.write_all(format!("{command}\0").as_bytes()).expect("the browser listens");
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let answer = self.answers.recv_timeout(left);
            let answer = answer.unwrap_or_else(|_| panic!("the browser does not answer {method}"));
            if answer["id"] == self.next {
                assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
                return answer["result"].clone();
            }
            if answer["method"].is_string() {
                self.events.push_back(answer);
            }
        }
    }

    /// Goes to an address.
    #[track_caller]
    pub fn open(&mut self, address: &str) {
        let opened = self.call("Page.navigate", json!({ "url": address }));
        assert!(opened["errorText"].is_null(), "{address}: {opened}");
    }

    /// Runs a script on the page, and returns its value.
    #[track_caller]
    pub fn run(&mut self, script: &str) -> Value {
        let params = json!({
            "expression": script, "returnByValue": true, "awaitPromise": true,
        });
        let result = self.call("Runtime.evaluate", params);
        assert!(result["exceptionDetails"].is_null(), "{script}: {result}");
        result["result"]["value"].clone()
    }

    /// Waits until a script's value is true.
    #[track_caller]
    pub fn wait(&mut self, what: &str, script: &str) {
        let start = Instant::now();
        while self.run(script) != true {
            let text = || self.run("document.body.innerText");
            assert!(
                start.elapsed() < PATIENCE,
                "waited in vain for {what}; the page: {}",
                { text }()
            );
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Presses a key: a letter, or a name such as `Tab`.
    pub fn key(&mut self, key: &str) {
        let text = match key {
            "Enter" => Some("\r"),
            key if key.chars().count() == 1 => Some(key),
            _ => None,
        };
        let code = match key {
            "Tab" => 9,
            "Enter" => 13,
            key => key.chars().next().map_or(0, u32::from),
        };
        let kind = if text.is_some() { "keyDown" } else { "rawKeyDown" };
        let down = json!({ "type": kind, "key": key, "text": text.unwrap_or_default(), "windowsVirtualKeyCode": code });
        self.call("Input.dispatchKeyEvent", down);
        let up = json!({ "type": "keyUp", "key": key, "windowsVirtualKeyCode": code });
        self.call("Input.dispatchKeyEvent", up);
    }

    /// Makes a picture of what is seen, as a PNG in a file.
    pub fn screenshot(&mut self, file: &Path) {
        let shot = self.call("Page.captureScreenshot", json!({ "format": "png" }));
        let data = shot["data"].as_str().expect("a picture");
        std::fs::write(file, base64(data)).expect("a picture in a file");
    }

    /// Addresses that the page has asked for so far.
    pub fn requests(&self) -> Vec<String> {
        let asked = self.events.iter().filter(|e| e["method"] == "Network.requestWillBeSent");
        let address = |event: &Value| Some(event["params"]["request"]["url"].as_str()?.to_owned());
        asked.filter_map(address).collect()
    }

    /// What went wrong on the page: exceptions, and what the browser complains of.
    pub fn complaints(&self) -> Vec<String> {
        let wrong = |e: &&Value| {
            e["method"] == "Runtime.exceptionThrown"
                || e["method"] == "Log.entryAdded" && e["params"]["entry"]["level"] == "error"
        };
        self.events.iter().filter(wrong).map(|event| event["params"].to_string()).collect()
    }
}

/// Reads messages, which end with a zero byte each, for as long as some come.
fn listen(pipe: File) -> Receiver<Value> {
    let (to, from) = mpsc::channel();
    thread::spawn(move || {
        for message in BufReader::new(pipe).split(0) {
            let Ok(message) = message else { return };
            let read = serde_json::from_slice(&message).expect("the browser speaks JSON");
            if to.send(read).is_err() {
                return;
            }
        }
    });
    from
}

/// Reads base64.
fn base64(text: &str) -> Vec<u8> {
    let digit = |byte: u8| match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let digits: Vec<u32> = text.bytes().filter_map(digit).map(u32::from).collect();
    let mut bytes = Vec::with_capacity(digits.len() * 3 / 4);
    for group in digits.chunks(4) {
        let value =
            group.iter().fold(0, |value, digit| value << 6 | digit) << (6 * (4 - group.len()));
        bytes.extend(value.to_be_bytes().get(1..group.len()).into_iter().flatten());
    }
    bytes
}
