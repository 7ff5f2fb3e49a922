//! Structured logs on stderr. What is logged is names, heights, sizes and hashes of public things;
//! never a prompt, a share, a seed or a key.

use clap::ValueEnum;
use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

/// Shape of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Default)]
pub(crate) enum LogFormat {
    /// One readable line per event.
    #[default]
    Text,
    /// One JSON object per event.
    Json,
}

/// Starts logging to stderr. `NESA_LOG` (as `RUST_LOG`'s syntax) wins over `default`.
pub(crate) fn start(default: &str, format: LogFormat) {
    let filter = EnvFilter::try_from_env("NESA_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    let registry = tracing_subscriber::registry().with(filter);
    let started = match format {
        LogFormat::Text => {
            registry.with(fmt::layer().with_writer(std::io::stderr).with_ansi(false)).try_init()
        }
        LogFormat::Json => registry
            .with(fmt::layer().json().with_writer(std::io::stderr).flatten_event(true))
            .try_init(),
    };
    if let Err(error) = started {
        eprintln!("logs are off: {error}");
    }
}
