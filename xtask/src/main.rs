//! Build and test driver: `cargo xtask up | build | test | bench | lint`.
//!
//! Everything a newcomer needs goes through here, so that the README holds two commands. Each
//! subcommand first checks for the tools it needs, installs what `rustup` and `npm` can give, and
//! names the one command that installs the rest.

mod bench;
mod bundle;
mod float;
mod licences;
mod prerequisites;
mod test;
mod workspace;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use std::process::{Command, ExitCode};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Builds, runs, tests and measures Nesa in Rust", version)]
struct Cli {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build everything, then run a local network and serve the playground.
    Up {
        /// Passed through to `nesa up` (try `--port 0`, `--scenario liar`, `--help`).
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Build the playground into www/dist (hashed names, .br and .gz beside each file).
    Build,
    /// Run every test: formatting, lints, native, aarch64 in an emulator, wasm and end to end in Chromium.
    Test {
        /// Run only these stages, in this order.
        #[arg(long, value_enum, value_delimiter = ',')]
        only: Vec<test::Stage>,
        /// Only tests whose name contains this (native and browser stages), or one browser file
        /// (`25-unfair`).
        filter: Option<String>,
    },
    /// Measure; prints ratios and writes JSON under target/bench.
    Bench {
        /// One of the names `cargo xtask bench --list` prints; all when absent.
        name: Option<String>,
        /// List the benchmarks and what each compares.
        #[arg(long)]
        list: bool,
    },
    /// Build the float lane's module for vector and for plain wasm into target/float, for
    /// `nesa float calibrate`.
    Float,
    /// The page alone, without its worker, into target/www-page; for work on its looks.
    #[command(hide = true)]
    Page,
    /// The wasm-bindgen test runner cargo calls; not for people.
    #[command(hide = true)]
    WasmTestRunner {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<std::ffi::OsString>,
    },
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        // Not `Result` from main: a failed test needs no backtrace of this driver.
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<()> {
    match task {
        Task::Up { args } => up(&args),
        Task::Build => bundle::build().map(|_| ()),
        Task::Float => float::build().map(|_| ()),
        Task::Page => bundle::page(),
        Task::Test { only, filter } => test::run(&only, filter.as_deref()),
        Task::Bench { name, list } => bench::run(name.as_deref(), list),
        Task::WasmTestRunner { args } => {
            let runner = std::iter::once("wasm-bindgen-test-runner".into()).chain(args);
            wasm_bindgen_cli::wasm_bindgen_test_runner::run_cli_with_args(runner)
        }
    }
}

/// Builds page, worker and node, then becomes `nesa up` so that signals reach it directly.
fn up(args: &[String]) -> Result<()> {
    // `--help` should not cost a build of the page.
    if !args.iter().any(|a| a == "--help" || a == "-h") {
        bundle::build()?;
    }
    workspace::cargo(&["build", "--locked", "--profile", workspace::NATIVE_PROFILE, "-p", "nesa"])?;
    let mut nesa = Command::new(workspace::native_binary("nesa"));
    nesa.arg("up").args(args).current_dir(workspace::root());
    #[cfg(unix)]
    {
        use std::os::unix::process::CommandExt as _;
        let error = nesa.exec();
        Err(error).context("could not start nesa up")
    }
    #[cfg(not(unix))]
    {
        workspace::run(&mut nesa)
    }
}
