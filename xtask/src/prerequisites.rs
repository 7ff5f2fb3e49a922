//! What must be on the machine, checked before the long work starts.

use crate::workspace::{ARM_LIBRARIES, ARM_LINKER, ARM_TARGET, QEMU, WASM_TARGET, root, run};
use anyhow::{Result, bail};
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The wasm target and clang: enough to build the page and the node.
pub(crate) fn for_build() -> Result<()> {
    wasm_target()?;
    need(&["clang"], "clang", "clang lld", "blst's C code is compiled for wasm32 with it")
}

/// Everything the browser tests need on top.
pub(crate) fn for_browser_tests() -> Result<()> {
    need(
        &["chromium", "chromium-browser", "google-chrome"],
        "Chromium",
        "chromium",
        "tests run in it",
    )?;
    need(&["chromedriver"], "ChromeDriver", "chromium-driver", "wasm tests are driven through it")?;
    need(&["node"], "Node.js", "nodejs npm", "end-to-end tests are driven by it")?;
    need(&["npm"], "npm", "npm", "it fetches the browser driver's library")?;
    npm_packages()
}

/// What the kernels' tests on aarch64 lack here, with the command that installs it.
pub(crate) fn missing_for_arm() -> Option<String> {
    let tools = [QEMU, ARM_LINKER].iter().all(|tool| find(tool).is_some());
    let libraries = Path::new(ARM_LIBRARIES).is_dir();
    match (tools && libraries, has_target(ARM_TARGET)) {
        (false, _) => Some(
            "sudo apt-get install -y gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user".into(),
        ),
        (true, false) => Some(format!("rustup target add {ARM_TARGET}")),
        (true, true) => None,
    }
}

/// Whether rustc has the standard library of a target.
fn has_target(target: &str) -> bool {
    let sysroot = Command::new("rustc").args(["--print", "sysroot"]).output();
    sysroot.is_ok_and(|out| {
        let sysroot = String::from_utf8_lossy(&out.stdout).trim().to_owned();
        Path::new(&sysroot).join("lib/rustlib").join(target).is_dir()
    })
}

/// Installs the target through rustup, the only way to get it.
fn wasm_target() -> Result<()> {
    if has_target(WASM_TARGET) {
        return Ok(());
    }
    if find("rustup").is_none() {
        bail!(
            "the Rust target {WASM_TARGET} is missing and rustup is not on PATH; install rustup, then run: rustup target add {WASM_TARGET}"
        );
    }
    run(Command::new("rustup").args(["target", "add", WASM_TARGET]))
}

/// The end-to-end tests' two npm packages, from the committed lock file.
fn npm_packages() -> Result<()> {
    let folder = root().join("www/tests");
    let lock = folder.join("package-lock.json");
    let stamp = folder.join("node_modules/.package-lock.json");
    let newer = |a: &Path, b: &Path| -> bool {
        let time = |p: &Path| fs::metadata(p).and_then(|m| m.modified()).ok();
        time(a) > time(b)
    };
    if stamp.is_file() && !newer(&lock, &stamp) {
        return Ok(());
    }
    run(Command::new("npm").current_dir(&folder).args([
        "ci",
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
    ]))
}

/// Fails with the one command that installs the first missing program.
fn need(any_of: &[&str], name: &str, packages: &str, why: &str) -> Result<()> {
    if any_of.iter().any(|p| find(p).is_some()) {
        return Ok(());
    }
    bail!("{name} is missing ({why}). Install it with: sudo apt-get install -y {packages}")
}

/// A program on PATH.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|d| d.join(program)).find(|p| p.is_file())
}
