//! `cargo xtask test`: every test of the project, cheapest first.

use crate::{
    bundle, licences, prerequisites,
    workspace::{
        ARM_LIBRARIES, ARM_LINKER, ARM_TARGET, BROWSER_PACKAGES, NATIVE_PROFILE, QEMU,
        WASM_PROFILE, WASM_TARGET, cargo, cargo_with, native_binary, root, run as run_command,
        target,
    },
};
use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum;
use std::{
    env, fs,
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Instant,
};

/// One part of the tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Stage {
    /// rustfmt, the licences of what we link, and clippy with warnings denied.
    Lint,
    /// Unit, property, simulation and process tests on this machine.
    Native,
    /// The kernels' tests on aarch64 in an emulator, where there is one; says so where there is not.
    Arm,
    /// The same async tests inside a dedicated worker in headless Chromium.
    Wasm,
    /// End to end: a local network, the playground, and nodes that lie.
    Browser,
}

const ALL: [Stage; 5] = [Stage::Lint, Stage::Native, Stage::Arm, Stage::Wasm, Stage::Browser];

/// Runs the stages named, or all of them.
pub(crate) fn run(only: &[Stage], filter: Option<&str>) -> Result<()> {
    let stages = if only.is_empty() { &ALL[..] } else { only };
    if stages.iter().any(|s| matches!(s, Stage::Wasm | Stage::Browser)) {
        prerequisites::for_build()?;
        prerequisites::for_browser_tests()?;
    }
    for stage in stages {
        let start = Instant::now();
        if *stage == Stage::Arm
            && let Some(command) = prerequisites::missing_for_arm()
        {
            eprintln!(
                "== {stage:?} NOT RUN: the kernels of aarch64 need an emulator. Install: {command}"
            );
            continue;
        }
        match stage {
            Stage::Lint => lint()?,
            Stage::Native => native(filter)?,
            Stage::Arm => arm()?,
            Stage::Wasm => wasm()?,
            Stage::Browser => browser(filter)?,
        }
        eprintln!("== {stage:?} passed in {:.0} s", start.elapsed().as_secs_f32());
    }
    Ok(())
}

fn lint() -> Result<()> {
    cargo(&["fmt", "--all", "--check"])?;
    licences::check()?;
    let mut args = vec!["clippy", "--locked", "--profile", NATIVE_PROFILE, "--all-targets"];
    args.extend(native_packages());
    args.extend(["--", "-D", "warnings"]);
    cargo(&args)?;
    let mut args = vec!["clippy", "--locked", "--profile", WASM_PROFILE, "--target", WASM_TARGET];
    for package in BROWSER_PACKAGES {
        args.extend(["-p", package]);
    }
    // Natively the same types are shared between threads; in the browser there is one.
    args.extend(["--", "-D", "warnings", "-A", "clippy::arc_with_non_send_sync"]);
    cargo(&args)
}

fn native(filter: Option<&str>) -> Result<()> {
    let mut args = vec!["test", "--locked", "--profile", NATIVE_PROFILE];
    args.extend(native_packages());
    args.extend(filter);
    cargo(&["test", "--quiet", "--locked", "--profile", NATIVE_PROFILE, "-p", "xtask"])?;
    cargo(&args)
}

/// The kernels alone: whatever is above them computes with their integers.
fn arm() -> Result<()> {
    let variable =
        |name: &str| format!("CARGO_TARGET_{}_{name}", ARM_TARGET.to_uppercase().replace('-', "_"));
    let (linker, runner) = (variable("LINKER"), variable("RUNNER"));
    cargo_with(
        &[
            "test",
            "--locked",
            "--profile",
            NATIVE_PROFILE,
            "--target",
            ARM_TARGET,
            "-p",
            "nesa-kernels",
        ],
        &[
            (linker.as_str(), ARM_LINKER.to_owned()),
            (runner.as_str(), format!("{QEMU} -L {ARM_LIBRARIES}")),
        ],
    )
}

/// One selection for every native call: another one would unify features differently and compile
/// the heavy dependencies again.
fn native_packages() -> Vec<&'static str> {
    let mut args = vec!["--workspace"];
    for package in BROWSER_PACKAGES {
        args.extend(["--exclude", package]);
    }
    // This driver links wasm-bindgen's tools and shares no features with the rest.
    args.extend(["--exclude", "xtask"]);
    args
}

/// Crates that have a `tests/browser.rs`, found rather than listed.
fn wasm() -> Result<()> {
    let _peer = NativePeer::start()?;
    let envs = runner()?;
    let packages = browser_test_packages()?;
    let mut args = vec!["test", "--locked", "--profile", WASM_PROFILE, "--target", WASM_TARGET];
    for package in &packages {
        args.extend(["-p", package.as_str()]);
    }
    // `page` runs on a page, because only a page may dial webrtc-direct; workers are built with that
    // transport too and must do without it.
    args.extend(["--features", "nesa-platform/webrtc-page", "--test", "browser", "--test", "page"]);
    cargo_with(&args, &envs)
}

/// What cargo needs to run wasm tests in headless Chromium.
pub(crate) fn runner() -> Result<[(&'static str, String); 4]> {
    let runner = env::current_exe().context("where is this program?")?;
    let driver = env::var("CHROMEDRIVER")
        .ok()
        .map_or_else(|| prerequisites::find("chromedriver").unwrap_or_default(), PathBuf::from);
    let capabilities = root().join("www/tests/webdriver.json");
    Ok([
        (
            "CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUNNER",
            format!("{} wasm-test-runner", runner.display()),
        ),
        ("CHROMEDRIVER", driver.display().to_string()),
        ("WASM_BINDGEN_TEST_WEBDRIVER_JSON", capabilities.display().to_string()),
        ("WASM_BINDGEN_TEST_TIMEOUT", "180".to_owned()),
    ])
}

/// The port `light-client/platform/tests/browser.rs` dials.
const PEER_PORT: &str = "47821";

/// A native libp2p node beside the browser tests; it ends when its standard input closes.
struct NativePeer(Child);

impl NativePeer {
    fn start() -> Result<Self> {
        let example = ["-p", "nesa-platform", "--example", "peer"];
        cargo(&[&["build", "--locked", "--profile", NATIVE_PROFILE][..], &example].concat())?;
        let mut child = Command::new(target().join(NATIVE_PROFILE).join("examples/peer"))
            .arg(PEER_PORT)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting the native peer of the wasm tests")?;
        let mut line = String::new();
        if let Some(out) = child.stdout.take() {
            BufReader::new(out).read_line(&mut line)?;
        }
        ensure!(line.starts_with("READY"), "the native peer said {line:?} instead of READY");
        Ok(Self(child))
    }
}

impl Drop for NativePeer {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        if self.0.wait().is_err() {
            eprintln!("the native peer of the wasm tests did not end by itself");
        }
    }
}

fn browser_test_packages() -> Result<Vec<String>> {
    let mut found = Vec::new();
    for group in ["shared", "light-client", "web-node"] {
        for entry in fs::read_dir(root().join(group))? {
            let folder = entry?.path();
            if !folder.join("tests/browser.rs").is_file() {
                continue;
            }
            let manifest = fs::read_to_string(folder.join("Cargo.toml"))?;
            let name = manifest
                .lines()
                .find_map(|l| l.strip_prefix("name = \"")?.strip_suffix('"'))
                .with_context(|| format!("no package name in {}", folder.display()))?;
            found.push(name.to_owned());
        }
    }
    found.sort();
    Ok(found)
}

fn browser(filter: Option<&str>) -> Result<()> {
    // First, so that the honest modules are those that stay where cargo puts them.
    let dishonest = bundle::dishonest_worker()?;
    let rehearsal = bundle::rehearsal_adapter()?;
    bundle::build()?;
    cargo(&["build", "--locked", "--profile", NATIVE_PROFILE, "-p", "nesa"])?;
    let nesa = native_binary("nesa");
    let folder = root().join("www/tests");
    let mut node = Command::new("node");
    node.current_dir(&folder)
        .env("NESA", &nesa)
        .env("DISHONEST", &dishonest)
        .env("REHEARSAL", &rehearsal)
        .args(["--test", "--test-concurrency=1", "--test-reporter=spec"]);
    let mut files: Vec<PathBuf> = fs::read_dir(folder.join("e2e"))?
        .filter_map(|e| e.ok().map(|e| e.path()))
        .filter(|p| p.to_string_lossy().ends_with(".test.mjs"))
        .collect();
    files.sort();
    if let Some(filter) = filter {
        // A file's name spares the networks of all the others; a test's name does not.
        let named: Vec<_> =
            files.iter().filter(|p| p.to_string_lossy().contains(filter)).cloned().collect();
        if named.is_empty() {
            node.arg(format!("--test-name-pattern={filter}"));
        } else {
            files = named;
        }
    }
    run_command(node.args(files))
}
