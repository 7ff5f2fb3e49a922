//! Errors in the four parts a person needs.

use nesa_light::{
    AskError, QueryError, models::ModelStoreError, query::engine::TextError, wallet::WalletError,
};
use nesa_messages::Problem;

/// Errors that can be shown.
pub(crate) trait Shown {
    /// As the page shows it.
    fn problem(&self) -> Problem;
}

impl Shown for AskError {
    fn problem(&self) -> Problem {
        match self {
            Self::NoPeer { .. } => Problem::new(
                "no-peers",
                "No node of the network answers.",
                "Check your connection; this page keeps trying.",
            ),
            Self::Undecided { .. } | Self::Timeout { .. } => Problem::new(
                "undecided",
                format!("The network has not shown enough yet: {self}."),
                "Try again in a moment.",
            ),
            Self::Wrong { got, expected, .. } => Problem::new(
                "wrong-answer",
                format!("A node answered wrongly and was dropped: {self}."),
                "Try again; another node is asked.",
            )
            .with(got, expected),
            Self::Rejected { reason } => Problem::new(
                "rejected",
                format!("The network refused the transaction: {reason}."),
                "Check the amount and try again.",
            ),
            Self::Forked { .. } => Problem::new(
                "fork",
                format!("{self}."),
                "Nothing from this network can be believed; keep the evidence on the Network page.",
            ),
            Self::Record { .. } => Problem::new(
                "record",
                format!("{self}."),
                "This page may be older than the network: reload it.",
            ),
        }
    }
}

impl Shown for QueryError {
    fn problem(&self) -> Problem {
        match self {
            Self::Chain(error) => error.problem(),
            Self::Funds { balance, needed } => Problem::new(
                "not-enough-funds",
                "Your wallet does not cover this query.",
                "Take test NES from the faucet on the Wallet page, or ask something shorter.",
            )
            .with(balance.in_nes().to_string(), needed.in_nes().to_string()),
            Self::TooDear { needed, allowed } => Problem::new(
                "too-dear",
                "The query costs more than you allowed.",
                "Raise the limit in the parameters, or ask something shorter.",
            )
            .with(needed.in_nes().to_string(), format!("at most {}", allowed.in_nes())),
            Self::Texts { .. } | Self::TooLong { .. } | Self::Length(_) => Problem::new(
                "too-long",
                format!("{self}."),
                "Remove some documents or split them over several questions.",
            ),
            Self::Inputs { .. } => {
                Problem::new("float-inputs", format!("{self}."), "Give fewer numbers.")
            }
            Self::Images { .. } | Self::Image(_) => Problem::new(
                "image",
                format!("{self}."),
                "Give an image of the model's size, and ask again.",
            ),
            Self::Text(error) => error.problem(),
            Self::Write(_) => {
                Problem::new("prompt", format!("{self}."), "Change the prompt, and ask again.")
            }
            Self::Family(_) | Self::Pair => {
                Problem::new("family", format!("{self}."), "Choose a model made for this task.")
            }
            Self::Committee(_) => Problem::new(
                "no-committee",
                format!("{self}."),
                "More independent nodes are needed, or another choice of named node.",
            ),
            Self::Session { .. } => Problem::new(
                "no-answer",
                format!("{self}."),
                "What was not spent returns at the deadline. Ask again: other nodes are drawn.",
            ),
            Self::Deadline { .. } => Problem::new(
                "deadline",
                "The deadline passed before the answer was complete.",
                "What was not spent returns by itself. Ask again.",
            ),
            Self::Storage(_) => Problem::new(
                "storage",
                format!("{self}."),
                "Allow this page to keep data on this device, then try again.",
            ),
            Self::ModelStore(error) => error.problem(),
            Self::Thin(_) => Problem::new(
                "preparation",
                format!("{self}."),
                "Nothing private was sent. Ask again: other nodes prepare.",
            ),
            Self::Draft(_) => {
                Problem::new("draft", format!("{self}."), "Ask without a model that guesses.")
            }
            Self::Model { .. }
            | Self::Windows { .. }
            | Self::Lane(_)
            | Self::Run(_)
            | Self::Start(_) => Problem::new("model", format!("{self}."), "Reload the page."),
            Self::Record { got, expected, .. } => Problem::new(
                "query-record",
                "The chain's record of this query is not what was paid for.",
                "Nothing private was sent. Ask again.",
            )
            .with(got, expected),
        }
    }
}

impl Shown for TextError {
    fn problem(&self) -> Problem {
        let (code, next) = match self {
            Self::Refused(_) => ("prompt", "Change the prompt, and ask again."),
            Self::Stopped(_) => ("tokenizer-stopped", "Ask again, or choose another model."),
            Self::Slow { .. } => {
                ("tokenizer-slow", "Ask something shorter, or choose another model.")
            }
            Self::Absent | Self::NoTokenizer => ("no-tokenizer", "Choose another model."),
        };
        Problem::new(code, format!("{self}."), next)
    }
}

impl Shown for ModelStoreError {
    fn problem(&self) -> Problem {
        match self {
            Self::Unavailable { reason, .. } => Problem::new(
                "no-model",
                "A part of the model could not be had, or did not match its digest.",
                "This page keeps trying; reload it if nothing moves.",
            )
            .with(reason, "the piece that the digest names"),
            Self::Storage(error) => Problem::new(
                "storage",
                format!("The model could not be kept: {error}."),
                "Free some space and reload the page.",
            ),
            _ => Problem::new(
                "bad-model",
                format!("The model breaks its own promises: {self}."),
                "Do not use this network's model.",
            ),
        }
    }
}

impl Shown for WalletError {
    fn problem(&self) -> Problem {
        match self {
            Self::Passphrase => Problem::new(
                "passphrase",
                "The passphrase does not open this key.",
                "Try again; nobody can recover a lost passphrase.",
            ),
            Self::Absent => {
                Problem::new("no-wallet", "There is no key on this device.", "Create one.")
            }
            Self::Locked => {
                Problem::new("locked", "The key is behind a passphrase.", "Unlock the wallet.")
            }
            Self::Backup(_) => Problem::new(
                "backup",
                format!("The file cannot be read: {self}."),
                "Choose the file that the Export button wrote.",
            ),
            Self::Storage(_) => Problem::new(
                "storage",
                format!("{self}."),
                "Allow this page to keep data on this device, then try again.",
            ),
        }
    }
}

impl Shown for nesa_platform::storage::StorageError {
    fn problem(&self) -> Problem {
        Problem::new(
            "storage",
            format!("{self}."),
            "Allow this page to keep data on this device, then try again.",
        )
    }
}

/// The network is not there yet.
pub(crate) fn not_ready() -> Problem {
    Problem::new(
        "not-ready",
        "The network or the model is not ready yet.",
        "Wait for the status in the header to say ready.",
    )
}

/// The model of a task is not ready in this worker.
pub(crate) fn not_prepared() -> Problem {
    Problem::new(
        "model-not-prepared",
        "The model is not ready on this device yet, so what it would cost cannot be told.",
        "Prepare the model; asking does so by itself.",
    )
}
