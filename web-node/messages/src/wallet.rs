//! The wallet as the page sees it: never a key.

use serde::{Deserialize, Serialize};

use crate::Unes;

/// Replaces the previous one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WalletView {
    /// Whether there is a key.
    pub state: WalletState,
    /// Address, hex.
    pub address: Option<String>,
    /// Whether a passphrase guards the key besides the device's non-extractable one.
    pub passphrase: bool,
    /// Balances proven in state by this device.
    pub balances: Vec<Balance>,
    /// Height whose state root the balances were proven against; `None` when not proven yet.
    pub proven_at: Option<u64>,
    /// Next nonce.
    pub nonce: u64,
    /// Latest first.
    pub activity: Vec<Activity>,
    /// Whether a backup was exported since the key was made.
    pub backed_up: bool,
}

/// Whether there is a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum WalletState {
    /// Not read yet.
    #[default]
    Unknown,
    /// No key on this device.
    Absent,
    /// A key behind a passphrase.
    Locked,
    /// Ready to sign.
    Ready,
}

/// One balance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Balance {
    /// 0 is NES.
    pub denom: u32,
    /// `NES`, `tUSD`.
    pub symbol: String,
    /// Amount.
    pub amount: Unes,
}

/// One line of activity.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Activity {
    /// Transaction id, hex.
    pub id: String,
    /// What kind.
    pub kind: ActivityKind,
    /// Plain words.
    pub what: String,
    /// Signed amount in unes as a decimal string: negative leaves the wallet.
    pub change: String,
    /// Milliseconds since the epoch.
    pub at_ms: f64,
    /// Height, once included and verified.
    pub height: Option<u64>,
    /// Why it was refused.
    pub refused: Option<String>,
}

/// What kind of activity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ActivityKind {
    /// From the faucet.
    Faucet,
    /// Sent to somebody.
    #[default]
    Sent,
    /// From somebody.
    Received,
    /// Escrowed for a query.
    Escrow,
    /// Back from a query.
    Refund,
    /// Earned by serving.
    Earned,
    /// Bonded as a node.
    Bond,
}
