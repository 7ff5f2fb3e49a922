//! The child's half of supervision: die with the parent, say when ready, end when asked.

use std::io::Write;

use anyhow::{Context, Result};
use nix::{sys::prctl, sys::signal::Signal, unistd};
use tokio::signal::unix::{SignalKind, signal};

use crate::local::supervisor::READY_LINE;

/// Ties this process to its supervisor: when the supervisor dies, however it dies, the kernel kills
/// this process too. Data directories survive that.
///
/// # Errors
/// When the supervisor is already gone, in which case this process must not go on.
pub(crate) fn bind_to(supervisor: Option<u32>) -> Result<()> {
    let Some(supervisor) = supervisor else { return Ok(()) };
    prctl::set_pdeathsig(Signal::SIGKILL).context("cannot tie this process to its supervisor")?;
    // The supervisor may have died between fork and the call above.
    anyhow::ensure!(
        u32::try_from(unistd::getppid().as_raw()) == Ok(supervisor),
        "the supervising process {supervisor} is gone"
    );
    Ok(())
}

/// Tells whoever reads stdout that this process serves.
pub(crate) fn announce_ready() {
    let mut stdout = std::io::stdout().lock();
    // Nobody may be reading; that is no reason to end.
    let _ = writeln!(stdout, "{READY_LINE}");
    let _ = stdout.flush();
}

/// Resolves on SIGINT or SIGTERM.
pub(crate) async fn asked_to_stop() -> Result<()> {
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}
