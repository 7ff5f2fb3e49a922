//! What the page asks.

use serde::{Deserialize, Serialize};

use crate::{
    Conversation, ConversationId, DonateLimits, Draft, JobId, JobOptions, PreparationChoice,
    RequestId, Task, Unes,
};

/// One request. Sent as `[json, Uint8Array?]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "t", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum ToWorker {
    /// First message. The worker answers with `Status`, `Wallet`, `History`, `Draft`, and from then
    /// on by itself.
    Start {
        /// `location.origin`: where `/v1/bootstrap` is, and what the bottom rung names.
        origin: String,
        /// Digest of this page's build, as its boot script reported it.
        build: String,
    },
    /// The page was hidden or shown; after a long sleep the worker re-bootstraps.
    Visible {
        /// Shown.
        visible: bool,
    },
    /// Try the network again now.
    Reconnect,
    /// Forget the pinned chain and everything stored for it, then start over.
    ForgetChain,

    /// The wallet.
    Wallet {
        /// What to do.
        command: WalletCommand,
    },

    /// Send the models offered. Answered by `Models`, which also comes by itself once the network is
    /// there and whenever something of it changes.
    Models,
    /// Fetch, check and prepare a model now. `Models` tells how far it is. A job does so by itself.
    PrepareModel {
        /// Its digest, hex.
        model: String,
        /// Who prepares; `None` takes what is there already, and this device otherwise.
        #[serde(default)]
        preparation: Option<PreparationChoice>,
    },
    /// Ask the nodes registered for a model whether they serve its shards now. Answered by `Online`.
    Online {
        /// Its digest, hex.
        model: String,
        /// How many shards it would be cut into.
        shards: u8,
    },
    /// How likely would a committee fail? Answered by `Odds`.
    Odds {
        /// Nodes for each shard.
        replicas: u8,
        /// Shards.
        shards: u8,
    },

    /// What would this cost and expose? Answered by `Quote`, or `Failed` with the same request: with
    /// the code `model-not-prepared` for a chat or a digit whose model is not ready in this worker.
    Quote {
        /// Echoed in the answer.
        request: RequestId,
        /// The work.
        task: Task,
        /// The choices.
        options: JobOptions,
    },
    /// Do it. Answered by `Job` views and `Progress`.
    Run {
        /// New id.
        job: JobId,
        /// The work.
        task: Task,
        /// The choices.
        options: JobOptions,
    },
    /// Stop a running job. What was not spent comes back at the deadline.
    Cancel {
        /// Which.
        job: JobId,
    },
    /// Check everything stored about a job again, from the stored bytes and a fresh state proof.
    Recheck {
        /// Which.
        job: JobId,
    },
    /// Send the full view of one job from the history.
    OpenJob {
        /// Which.
        job: JobId,
    },
    /// Delete one job and everything kept for it.
    DeleteJob {
        /// Which.
        job: JobId,
    },
    /// Delete all history, cached vectors and drafts.
    DeleteHistory,
    /// Keep this draft (debounced by the page).
    SaveDraft {
        /// The draft.
        draft: Draft,
    },

    /// Send the list of conversations. Answered by `Conversations`, which also comes after `Start` and
    /// whenever the list changes.
    Conversations,
    /// Send one conversation. Answered by `Conversation`.
    OpenConversation {
        /// Which.
        conversation: ConversationId,
    },
    /// Keep a conversation as it is here: a new title, other settings, edited turns. Not needed to
    /// ask; see [`Conversation`].
    SaveConversation {
        /// All of it.
        conversation: Box<Conversation>,
    },
    /// Delete a conversation with its jobs and everything kept for them. Running ones are stopped.
    DeleteConversation {
        /// Which.
        conversation: ConversationId,
    },
    /// Answered by `File`: the conversation, its jobs and their payment receipts. Contains every
    /// prompt and answer.
    ExportConversation {
        /// Which.
        conversation: ConversationId,
        /// Also the opened receipts that were kept, with which others can check every layer.
        openings: bool,
        /// Must be true: the user agreed in words that the file shows what was said.
        consent: bool,
    },
    /// Read a file that an export wrote; its bytes travel beside the JSON. Answered by `Conversation`
    /// and `Conversations`, or `Failed` with the same request. It gets a new id, and so do its jobs.
    /// What its ladders said is not believed: a rung is verified only if its receipt is, here and
    /// now.
    ImportConversation {
        /// Echoed.
        request: RequestId,
        /// File name, for showing.
        name: String,
    },

    /// Answered by `File` with the receipt's bytes.
    ExportPayment {
        /// Which.
        job: JobId,
    },
    /// Answered by `File`. Contains the prompt: only sent after the user agreed in words.
    ExportOpened {
        /// Which.
        job: JobId,
        /// Must be true.
        consent: bool,
    },
    /// Check a receipt; its bytes travel beside the JSON. Answered by `Receipt`.
    VerifyFile {
        /// Echoed.
        request: RequestId,
        /// File name, for showing.
        name: String,
    },

    /// Send the nodes, proven from state. Answered by `Network`.
    Nodes,
    /// Send one block. Answered by `Block`.
    Block {
        /// Height.
        height: u64,
    },

    /// Begin to serve.
    Donate {
        /// Limits.
        limits: DonateLimits,
    },
    /// New limits while serving.
    DonateLimits {
        /// Limits.
        limits: DonateLimits,
    },
    /// Stop serving after the queries under way.
    DonateStop,
    /// Look for a graphics adapter and run the bit self-tests. Answered by `Adapter`.
    ProbeAdapter,
}

/// What to do with the wallet. Answered by `Wallet` (and `File` for an export).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "c", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum WalletCommand {
    /// Make a key on this device. Without a passphrase it is encrypted under the device's
    /// non-extractable key alone.
    Create {
        /// Guards the key besides.
        passphrase: Option<String>,
    },
    /// Open a key behind a passphrase.
    Unlock {
        /// The passphrase.
        passphrase: String,
    },
    /// Forget the open key until the next unlock.
    Lock,
    /// Write a backup encrypted under a passphrase. Answered by `File`.
    Export {
        /// For this file.
        passphrase: String,
    },
    /// Read a backup; replaces the key on this device.
    Import {
        /// Text of the backup file.
        file: String,
        /// Its passphrase.
        passphrase: String,
    },
    /// Ask the local network's faucet.
    Faucet,
    /// Send an amount.
    Send {
        /// Address, hex.
        to: String,
        /// 0 is NES.
        denom: u32,
        /// Amount.
        amount: Unes,
    },
    /// Prove the balances again.
    Refresh,
    /// Remove the key from this device.
    Erase,
}

// Passphrases must not reach a log through a Debug print.
impl std::fmt::Debug for WalletCommand {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Create { .. } => "Create",
            Self::Unlock { .. } => "Unlock",
            Self::Lock => "Lock",
            Self::Export { .. } => "Export",
            Self::Import { .. } => "Import",
            Self::Faucet => "Faucet",
            Self::Send { .. } => "Send",
            Self::Refresh => "Refresh",
            Self::Erase => "Erase",
        })
    }
}
