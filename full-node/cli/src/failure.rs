//! How a command fails: what happened, what to do next, and an exit code scripts can branch on.

use std::fmt;

/// Exit codes of `nesa`. Usage errors exit 2, as clap does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    /// The command ran and its answer is no (a receipt that does not verify, a refused query).
    Failed = 1,
    /// The command line or a file it names is wrong.
    Usage = 2,
    /// Nothing answered: no network is running, or it cannot be reached.
    Unavailable = 3,
    /// A data directory or port is in use by another process.
    InUse = 4,
}

/// An error with advice. Wrapped in `anyhow`, found again by [`code`] and [`report`].
#[derive(Debug)]
pub(crate) struct Failure {
    code: Code,
    what: String,
    next: String,
}

impl Failure {
    /// `what` happened; `next` says what the reader can do about it.
    pub(crate) fn new(code: Code, what: impl Into<String>, next: impl Into<String>) -> Self {
        Self { code, what: what.into(), next: next.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for Failure {}

fn find(error: &anyhow::Error) -> Option<&Failure> {
    error.downcast_ref::<Failure>().or_else(|| error.chain().find_map(|e| e.downcast_ref()))
}

/// The exit code an error maps to.
pub(crate) fn code(error: &anyhow::Error) -> Code {
    find(error).map_or(Code::Failed, |failure| failure.code)
}

/// Writes the error and its advice to stderr, as one JSON object when `json` is set.
pub(crate) fn report(error: &anyhow::Error, json: bool) {
    let next = find(error).map(|failure| failure.next.as_str());
    if json {
        let object = serde_json::json!({ "error": format!("{error:#}"), "next": next });
        eprintln!("{object}");
        return;
    }
    eprintln!("error: {error:#}");
    if let Some(next) = next {
        eprintln!(" next: {next}");
    }
}
