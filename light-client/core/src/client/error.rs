//! Why a question got no answer.

/// Why a question got no answer that this device could verify.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// No peer is connected, or every one was dropped for a wrong answer.
    #[error("no peer answers: {reason}")]
    NoPeer {
        /// What the last one said or did.
        reason: String,
    },
    /// Peers answered, but what they gave does not decide the question yet.
    #[error("not decided: {missing} is missing")]
    Undecided {
        /// What is missing.
        missing: String,
    },
    /// Peers answered wrongly, and none is left to ask.
    #[error("{peer} answered wrongly: {what}: got {got}, expected {expected}")]
    Wrong {
        /// Who.
        peer: String,
        /// Which check failed.
        what: String,
        /// What arrived.
        got: String,
        /// What was expected.
        expected: String,
    },
    /// Every peer refused the transaction.
    #[error("refused by the network: {reason}")]
    Rejected {
        /// In the peer's words.
        reason: String,
    },
    /// Two finalized headers of one height are known; nothing more is believed.
    #[error("two finalized headers at height {height}: this network's quorum failed")]
    Forked {
        /// The height.
        height: u64,
    },
    /// What was proven does not decode as the record it should be.
    #[error("the proven record {what} does not decode: {reason}")]
    Record {
        /// Which record.
        what: &'static str,
        /// What the decoder said.
        reason: String,
    },
    /// It did not happen in time.
    #[error("{what} did not happen within {ms} ms")]
    Timeout {
        /// What was waited for.
        what: &'static str,
        /// The limit.
        ms: u64,
    },
}

impl AskError {
    /// Before any peer was asked.
    pub(super) fn unasked() -> Self {
        Self::NoPeer { reason: "none is known".into() }
    }

    /// What is known after one more peer failed: a fork ends the asking, what a peer lacks or
    /// refuses outweighs what another got wrong, and anything outweighs silence.
    pub(super) fn then(self, next: Self) -> Result<Self, Self> {
        match next {
            Self::Forked { .. } => Err(next),
            Self::NoPeer { .. } | Self::Wrong { .. } if !matches!(self, Self::NoPeer { .. }) => {
                Ok(self)
            }
            next => Ok(next),
        }
    }
}
