//! A real local network for tests: real processes, real sockets on loopback, a folder of its own.

// Each test binary uses a part of this.
#![allow(dead_code)]

pub(crate) mod checkpoint;
pub(crate) mod client;
pub(crate) mod http;
pub(crate) mod slow;

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use nix::{sys::signal, unistd::Pid};
use serde_json::Value;

/// The executable under test.
pub(crate) const NESA: &str = env!("CARGO_BIN_EXE_nesa");
/// How long a start may take on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(150);
/// How long one command may take on a busy machine.
const COMMAND_LIMIT: Duration = Duration::from_secs(150);

/// A running `nesa up`.
pub(crate) struct Network {
    child: Child,
    /// What the READY line said.
    pub(crate) ready: Value,
    /// The folder of the network, of `$NESA_HOME` and of the test's files.
    pub(crate) root: PathBuf,
}

impl Network {
    /// Starts a network in `root/net` and waits for its READY line.
    pub(crate) fn start(root: &Path, arguments: &[&str]) -> Self {
        let said = root.join("up.stderr");
        let stderr = std::fs::File::create(&said).expect("a file for what the supervisor says");
        let mut child = Command::new(NESA)
            .arg("up")
            .arg("--dir")
            .arg(root.join("net"))
            .args(arguments)
            .env("NESA_HOME", root.join("home"))
            .env("NESA_LOG", "info,nesa=trace,nesa_node=trace,nesa_light=trace,nesa_masked=trace")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .expect("nesa up starts");
        let stdout = child.stdout.take().expect("piped");
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let deadline = Instant::now() + START_LIMIT;
        let ready = loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match lines.recv_timeout(left) {
                Ok(line) => {
                    if let Some(json) = line.strip_prefix("READY ") {
                        break serde_json::from_str(json).expect("READY carries JSON");
                    }
                }
                Err(error) => {
                    let _ = child.kill();
                    let said = std::fs::read_to_string(&said).unwrap_or_default();
                    panic!("no READY line: {error}\n{said}\n{}", logs(&root.join("net")));
                }
            }
        };
        Self { child, ready, root: root.to_owned() }
    }

    /// The network's folder.
    pub(crate) fn dir(&self) -> PathBuf {
        self.root.join("net")
    }

    /// A text field of the READY line.
    pub(crate) fn field(&self, name: &str) -> &str {
        self.ready[name].as_str().unwrap_or_else(|| panic!("READY has no {name}"))
    }

    /// Runs `nesa` with the network's `$NESA_HOME`, bounded in time.
    pub(crate) fn nesa<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Output {
        run(&self.root.join("home"), arguments)
    }

    /// Runs `nesa …` and parses the JSON it prints; panics with both outputs if it fails.
    pub(crate) fn json<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Value {
        let output = self.nesa(arguments);
        assert!(output.status.success(), "{}\n{}", show(&output), logs(&self.dir()));
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", show(&output)))
    }

    /// Process ids as `run.json` has them now.
    pub(crate) fn pids(&self) -> Vec<(String, i32)> {
        let text = std::fs::read_to_string(self.dir().join("run.json")).expect("run.json");
        let pids: std::collections::BTreeMap<String, i32> =
            serde_json::from_str(&text).expect("run.json is JSON");
        pids.into_iter().collect()
    }

    /// Kills the supervisor and every child with SIGKILL, all at once.
    pub(crate) fn kill_everything(mut self) {
        let pids = self.pids();
        for (_, pid) in &pids {
            let _ = signal::kill(Pid::from_raw(*pid), signal::Signal::SIGKILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        gone(&pids);
    }

    /// Asks the supervisor to stop and checks that nothing is left behind.
    pub(crate) fn stop(mut self) {
        let pids = self.pids();
        let pid = i32::try_from(self.child.id()).expect("a process id");
        signal::kill(Pid::from_raw(pid), signal::Signal::SIGTERM).expect("the supervisor runs");
        let deadline = Instant::now() + Duration::from_secs(30);
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("waitable") {
                break status;
            }
            assert!(Instant::now() < deadline, "the supervisor does not stop");
            std::thread::sleep(Duration::from_millis(50));
        };
        assert!(status.success(), "a clean stop exits 0, got {status}");
        gone(&pids);
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // A failed test leaves nothing behind: children die with their supervisor.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until none of `pids` is a running process.
fn gone(pids: &[(String, i32)]) {
    let deadline = Instant::now() + Duration::from_secs(10);
    for (name, pid) in pids {
        while alive(*pid) {
            assert!(Instant::now() < deadline, "{name} ({pid}) is left behind");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// True while a thread of `pid` runs. The first thread alone, a zombie, no longer does; while others end,
/// they hold the process's sockets.
fn alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    let zombie = |stat: &String| stat.rsplit(')').next().unwrap_or_default().starts_with(" Z");
    let threads = || std::fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    stat.is_ok_and(|stat| !zombie(&stat) || threads() > 1)
}

/// Runs `nesa` with `home` as `$NESA_HOME`, killing it when it takes too long.
pub(crate) fn run<S: AsRef<OsStr>>(home: &Path, arguments: impl IntoIterator<Item = S>) -> Output {
    let child = Command::new(NESA)
        .args(arguments)
        .env("NESA_HOME", home)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("nesa starts");
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("a process id"));
    let (done, wait) = mpsc::channel::<()>();
    let guard = std::thread::spawn(move || {
        if wait.recv_timeout(COMMAND_LIMIT).is_err() {
            let _ = signal::kill(pid, signal::Signal::SIGKILL);
        }
    });
    let output = child.wait_with_output().expect("waitable");
    let _ = done.send(());
    let _ = guard.join();
    output
}

/// Both outputs of a command, for a failure's message.
pub(crate) fn show(output: &Output) -> String {
    format!(
        "{}\nstdout: {}\nstderr: {}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// The last lines of every process's log.
pub(crate) fn logs(dir: &Path) -> String {
    let mut text = String::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if let Ok(log) = std::fs::read_to_string(entry.path().join("log")) {
            let lines: Vec<_> = log.lines().collect();
            let from = lines.len().saturating_sub(15);
            text += &format!("--- {}\n{}\n", entry.path().display(), lines[from..].join("\n"));
        }
    }
    text
}

/// Every file below `dir` whose bytes contain one of `needles`, which must not happen.
pub(crate) fn files_containing(dir: &Path, needles: &[(&str, Vec<u8>)]) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(bytes) = std::fs::read(&path) {
                for (name, needle) in needles {
                    if bytes.windows(needle.len()).any(|window| window == needle.as_slice()) {
                        found.push(format!("{name} in {}", path.display()));
                    }
                }
            }
        }
    }
    found
}

/// Polls until `look` finds something; panics when it takes longer than a minute.
pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The bytes of hexadecimal text.
pub(crate) fn unhex(text: &str) -> Vec<u8> {
    text.as_bytes()
        .chunks(2)
        .map(|pair| {
            let digits = std::str::from_utf8(pair).expect("ASCII");
            u8::from_str_radix(digits, 16).expect("hexadecimal")
        })
        .collect()
}

/// Compiles a made-up decoder; its file.
pub(crate) fn tiny_decoder(root: &Path) -> String {
    compiled(root, "tiny", checkpoint::write)
}

/// Compiles a made-up text classifier; its file.
pub(crate) fn tiny_text_classifier(root: &Path) -> String {
    compiled(root, "moods", checkpoint::write_text_classifier)
}

fn compiled(root: &Path, name: &str, write: fn(&Path)) -> String {
    let (dir, file) = (root.join(name), root.join(format!("{name}.nesa")));
    std::fs::create_dir(&dir).unwrap();
    write(&dir);
    let [dir, file] = [dir, file].map(|path| path.display().to_string());
    let output = run(root, ["model", "compile", &dir, "--out", &file]);
    assert!(output.status.success(), "{}", show(&output));
    file
}
