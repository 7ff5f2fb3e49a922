//! Keeps the processes of a local network running, and takes them down with it.
//!
//! ```text
//! nesa up ──spawn──▶ nesa node validator …   stdout: one line READY   stderr: DIR/v0/log
//!         ──spawn──▶ nesa node compute …     stdout: one line READY   stderr: DIR/c0/log
//! ```
//!
//! Each child asks the kernel to be killed when its parent's thread ends (PR_SET_PDEATHSIG, see
//! [`crate::node::supervised`]), so everything here runs on one thread that lives as long as the
//! process. A child that exits by itself is started again after a pause that doubles up to a limit.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    ffi::OsString,
    fs::OpenOptions,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    rc::Rc,
    time::Duration,
};

use anyhow::{Context, Result};
use nix::{sys::signal, unistd::Pid};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    sync::{mpsc, watch},
    time::Instant,
};

use crate::{
    failure::{Code, Failure},
    files,
};

/// The line a child prints once it serves.
pub(crate) const READY_LINE: &str = "READY";
/// How long a child may take to end after SIGTERM before it is killed.
const GRACE: Duration = Duration::from_secs(8);
/// A child that ran this long has recovered; its next pause starts short again.
const HEALTHY: Duration = Duration::from_secs(30);
/// A child that ends this often before it was ever ready makes the start fail.
const EARLY_EXITS: u32 = 4;
/// A log beyond this size is set aside when its child starts.
const MAX_LOG_BYTES: u64 = 32 << 20;

/// One process to keep running.
#[derive(Debug, Clone)]
pub(crate) struct ChildSpec {
    /// Name in messages and in `run.json`.
    pub(crate) name: String,
    /// Arguments after the executable.
    pub(crate) args: Vec<OsString>,
    /// Where its stderr goes, appended.
    pub(crate) log: PathBuf,
}

/// When and how fast a child that ended is started again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RestartPolicy {
    /// Pause before the first restart.
    pub(crate) first: Duration,
    /// Longest pause.
    pub(crate) longest: Duration,
    /// False: a child that ends stays down.
    pub(crate) enabled: bool,
}

/// Process ids by child name, as of now.
pub(crate) type Pids = BTreeMap<String, u32>;

enum Event {
    Ready(usize),
    GaveUp { name: String, status: ExitStatus, log: PathBuf },
}

/// A set of running children.
pub(crate) struct Supervisor {
    dir: PathBuf,
    exe: PathBuf,
    policy: RestartPolicy,
    pids: Rc<RefCell<Pids>>,
    stop: watch::Sender<bool>,
    events: (mpsc::UnboundedSender<Event>, mpsc::UnboundedReceiver<Event>),
    tasks: tokio::task::JoinSet<()>,
    started: usize,
}

impl Supervisor {
    /// A supervisor for the network in `dir`; call it from a current-thread runtime's `LocalSet`.
    pub(crate) fn new(dir: &Path, policy: RestartPolicy) -> Result<Self> {
        Ok(Self {
            dir: dir.to_owned(),
            exe: std::env::current_exe().context("cannot find this executable")?,
            policy,
            pids: Rc::default(),
            stop: watch::Sender::new(false),
            events: mpsc::unbounded_channel(),
            tasks: tokio::task::JoinSet::new(),
            started: 0,
        })
    }

    /// Starts `specs` and waits until each has printed its ready line.
    ///
    /// # Errors
    /// When one keeps ending before it is ready, or `limit` passes; the message names its log.
    pub(crate) async fn start(&mut self, specs: Vec<ChildSpec>, limit: Duration) -> Result<()> {
        let first = self.started;
        let names: Vec<_> =
            specs.iter().map(|spec| (spec.name.clone(), spec.log.clone())).collect();
        for spec in specs {
            let keeper = Keeper {
                index: self.started,
                spec,
                exe: self.exe.clone(),
                dir: self.dir.clone(),
                policy: self.policy,
                pids: self.pids.clone(),
                stop: self.stop.subscribe(),
                events: self.events.0.clone(),
            };
            self.started += 1;
            self.tasks.spawn_local(keeper.run());
        }
        let mut waiting: std::collections::BTreeSet<usize> = (first..self.started).collect();
        let deadline = Instant::now() + limit;
        while !waiting.is_empty() {
            match tokio::time::timeout_at(deadline, self.events.1.recv()).await {
                Ok(Some(Event::Ready(index))) => {
                    waiting.remove(&index);
                }
                Ok(Some(Event::GaveUp { name, status, log })) => {
                    return Err(Failure::new(
                        Code::Failed,
                        format!("{name} ended before it was ready ({status}):\n{}", tail(&log)),
                        format!("read the whole log: {}", log.display()),
                    )
                    .into());
                }
                Ok(None) => anyhow::bail!("the supervisor lost its children"),
                Err(_) => {
                    let late: Vec<_> = waiting.iter().map(|i| &names[i - first]).collect();
                    let who: Vec<_> = late.iter().map(|(name, _)| name.as_str()).collect();
                    let log = late.first().map(|(_, log)| log.display().to_string());
                    return Err(Failure::new(
                        Code::Failed,
                        format!("{} not ready after {} s", who.join(", "), limit.as_secs()),
                        format!("read the log: {}", log.unwrap_or_default()),
                    )
                    .into());
                }
            }
        }
        Ok(())
    }

    /// Process ids of the children that run now.
    pub(crate) fn pids(&self) -> Pids {
        self.pids.borrow().clone()
    }

    /// Ends every child: SIGTERM, then SIGKILL for whoever is left after [`GRACE`].
    pub(crate) async fn stop(mut self) {
        self.stop.send_replace(true);
        while self.tasks.join_next().await.is_some() {}
    }
}

/// Keeps one child running.
struct Keeper {
    index: usize,
    spec: ChildSpec,
    exe: PathBuf,
    dir: PathBuf,
    policy: RestartPolicy,
    pids: Rc<RefCell<Pids>>,
    stop: watch::Receiver<bool>,
    events: mpsc::UnboundedSender<Event>,
}

impl Keeper {
    async fn run(mut self) {
        let mut pause = self.policy.first;
        let mut was_ready = false;
        let mut early_exits = 0;
        while !*self.stop.borrow() {
            let since = Instant::now();
            let status = match self.spawn() {
                Ok(child) => self.watch(child, &mut was_ready).await,
                Err(error) => {
                    tracing::error!(child = %self.spec.name, %error, "cannot start");
                    None
                }
            };
            self.pids.borrow_mut().remove(&self.spec.name);
            self.record();
            if *self.stop.borrow() {
                break;
            }
            if let Some(status) = status {
                tracing::warn!(child = %self.spec.name, %status, "ended by itself");
                early_exits += u32::from(!was_ready);
                if !was_ready && early_exits >= EARLY_EXITS {
                    let (name, log) = (self.spec.name.clone(), self.spec.log.clone());
                    let _ = self.events.send(Event::GaveUp { name, status, log });
                    break;
                }
            }
            if !self.policy.enabled {
                break;
            }
            if since.elapsed() >= HEALTHY {
                pause = self.policy.first;
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = self.stop.wait_for(|stop| *stop) => break,
            }
            pause = (pause * 2).min(self.policy.longest);
        }
    }

    fn spawn(&self) -> Result<Child> {
        set_aside(&self.spec.log);
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.spec.log)
            .with_context(|| format!("cannot open {}", self.spec.log.display()))?;
        let child = Command::new(&self.exe)
            .args(&self.spec.args)
            .arg("--supervisor")
            .arg(std::process::id().to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot run {}", self.exe.display()))?;
        if let Some(pid) = child.id() {
            self.pids.borrow_mut().insert(self.spec.name.clone(), pid);
            self.record();
        }
        Ok(child)
    }

    /// Waits for the end of `child`, reporting its ready line; asks it to end when told to stop.
    async fn watch(&mut self, mut child: Child, was_ready: &mut bool) -> Option<ExitStatus> {
        if let Some(stdout) = child.stdout.take() {
            let mut lines = BufReader::new(stdout).lines();
            loop {
                tokio::select! {
                    line = lines.next_line() => match line {
                        Ok(Some(line)) if line == READY_LINE => {
                            *was_ready = true;
                            let _ = self.events.send(Event::Ready(self.index));
                        }
                        Ok(Some(_)) => {}
                        Ok(None) | Err(_) => break,
                    },
                    _ = self.stop.wait_for(|stop| *stop) => break,
                }
            }
        }
        tokio::select! {
            status = child.wait() => return status.ok(),
            _ = self.stop.wait_for(|stop| *stop) => {}
        }
        terminate(&child);
        match tokio::time::timeout(GRACE, child.wait()).await {
            Ok(status) => status.ok(),
            Err(_) => {
                tracing::warn!(child = %self.spec.name, "did not end when asked; killed");
                let _ = child.kill().await;
                None
            }
        }
    }

    /// Keeps `DIR/run.json` true, for scripts that signal a particular process.
    fn record(&self) {
        let pids = self.pids.borrow();
        if let Ok(mut text) = serde_json::to_vec(&*pids) {
            text.push(b'\n');
            if let Err(error) = files::write(&self.dir.join("run.json"), &text) {
                tracing::warn!(%error, "cannot record process ids");
            }
        }
    }
}

fn terminate(child: &Child) {
    if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
        let _ = signal::kill(Pid::from_raw(pid), signal::Signal::SIGTERM);
    }
}

/// Moves a log that has grown too large out of the way; one old one is kept.
fn set_aside(log: &Path) {
    if std::fs::metadata(log).is_ok_and(|meta| meta.len() > MAX_LOG_BYTES) {
        let _ = std::fs::rename(log, log.with_extension("old"));
    }
}

/// The last lines of a log, for an error message.
fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    let from = lines.len().saturating_sub(12);
    lines[from..].join("\n")
}
