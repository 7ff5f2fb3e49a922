//! Where things are, and how cargo is called.

use anyhow::{Context as _, Result, ensure};
use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// The one native profile: tests and the local network run the same objects.
pub(crate) const NATIVE_PROFILE: &str = "local";
/// The one browser profile.
pub(crate) const WASM_PROFILE: &str = "wasm";
/// The browser target.
pub(crate) const WASM_TARGET: &str = "wasm32-unknown-unknown";
/// The target whose kernels are tested in an emulator, and what that takes.
pub(crate) const ARM_TARGET: &str = "aarch64-unknown-linux-gnu";
pub(crate) const ARM_LINKER: &str = "aarch64-linux-gnu-gcc";
pub(crate) const ARM_LIBRARIES: &str = "/usr/aarch64-linux-gnu";
pub(crate) const QEMU: &str = "qemu-aarch64";
/// Packages that only make sense in a browser; native builds leave them out.
pub(crate) const BROWSER_PACKAGES: [&str; 6] =
    ["nesa-ui", "nesa-worker", "nesa-adapter", "nesa-text", "nesa-pool", "nesa-verifier"];

/// The repository root: of the checkout that `cargo xtask` is called in, which is not the one this
/// program was compiled in when two checkouts share a target directory.
pub(crate) fn root() -> PathBuf {
    let manifest = env::var_os("CARGO_MANIFEST_DIR").unwrap_or(env!("CARGO_MANIFEST_DIR").into());
    Path::new(&manifest).parent().map_or_else(PathBuf::new, Path::to_owned)
}

/// Cargo's target directory.
pub(crate) fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// A binary that the native profile built.
pub(crate) fn native_binary(name: &str) -> PathBuf {
    target().join(NATIVE_PROFILE).join(name)
}

/// Runs cargo in the workspace and fails if it does.
pub(crate) fn cargo(args: &[&str]) -> Result<()> {
    cargo_with(args, &[])
}

/// Runs cargo with extra environment variables.
pub(crate) fn cargo_with(args: &[&str], envs: &[(&str, String)]) -> Result<()> {
    let mut command = cargo_command(args);
    for (key, value) in envs {
        command.env(key, value);
    }
    run(&mut command)
}

/// What cargo prints on standard output.
pub(crate) fn cargo_output(args: &[&str]) -> Result<Vec<u8>> {
    let output = cargo_command(args).stderr(Stdio::inherit()).output().context("running cargo")?;
    ensure!(output.status.success(), "`cargo {}` failed: {}", args.join(" "), output.status);
    Ok(output.stdout)
}

/// Flags by which modules name source files the same on every machine: what browsers load must not depend on
/// where it was built, and need not tell. Merged with those of `.cargo/config.toml`.
fn portable() -> String {
    let home = |variable: &str, folder: &str| {
        let given = env::var_os(variable).map(PathBuf::from);
        given.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(folder)))
    };
    let places = [
        (Some(root()), "/nesa"),
        (home("CARGO_HOME", ".cargo"), "/cargo"),
        (home("RUSTUP_HOME", ".rustup"), "/rustup"),
        (Some(target()), "/target"),
    ];
    let flags: Vec<String> = places
        .into_iter()
        .filter_map(|(from, to)| Some(format!("--remap-path-prefix={}={to}", from?.to_str()?)))
        // As a TOML string.
        .map(|flag| format!("\"{}\"", flag.replace('\\', "\\\\").replace('"', "\\\"")))
        .collect();
    format!("target.{WASM_TARGET}.rustflags=[{}]", flags.join(","))
}

fn cargo_command(args: &[&str]) -> Command {
    let program = env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let mut command = Command::new(program);
    command.current_dir(root());
    if args.contains(&WASM_TARGET) {
        command.args(["--config", &portable()]);
    }
    command.args(args);
    // `cargo run` describes this package to us; passed on, it would make build scripts that watch
    // these variables (ring's) run again each time the caller changes.
    for (key, _) in env::vars_os() {
        let name = key.to_string_lossy();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&key);
        }
    }
    command
}

/// Runs a command, showing it, and fails if it does.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let shown = show(command);
    eprintln!("\x1b[2m$ {shown}\x1b[0m");
    let status = command.status().with_context(|| format!("could not start `{shown}`"))?;
    ensure!(status.success(), "`{shown}` failed: {status}");
    Ok(())
}

fn show(command: &Command) -> String {
    let program = Path::new(command.get_program())
        .file_name()
        .map_or_else(Default::default, |n| n.to_string_lossy().into_owned());
    std::iter::once(program)
        .chain(command.get_args().map(|a| a.to_string_lossy().into_owned()))
        .collect::<Vec<_>>()
        .join(" ")
}
