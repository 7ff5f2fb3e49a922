//! Passing transactions on: the validator that took one sends it once to all others.
//!
//! Validators are fully connected, so nothing is passed on twice. A validator that was away misses
//! what was sent meanwhile; the sender's own validator proposes it when its turn comes.

use crate::{admission::Admission, engine::Runtime};
use bytes::Bytes;
use commonware_p2p::{Receiver, Recipients, Sender};
use futures::{StreamExt as _, channel::mpsc};
use nesa_chain::{header::ValidatorKey, tx::SignedTx};
use tracing::debug;

/// Transactions that may wait to be sent to the other validators.
pub(crate) const OUTBOX: usize = 1024;

/// Sends whatever was admitted here.
pub(crate) async fn send<S: Sender<PublicKey = ValidatorKey>>(
    mut sender: S,
    mut outbox: mpsc::Receiver<Bytes>,
) {
    while let Some(bytes) = outbox.next().await {
        let _ = sender.send(Recipients::All, bytes, false);
    }
}

/// Admits whatever others send.
pub(crate) async fn receive<E: Runtime, V: Receiver<PublicKey = ValidatorKey>>(
    mut receiver: V,
    admission: Admission<E>,
) {
    while let Ok((peer, message)) = receiver.recv().await {
        let bytes: Bytes = message.into();
        let taken = match SignedTx::from_bytes(&bytes) {
            Ok(tx) => admission.admit(tx).await.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(reason) = taken {
            // The peer may simply know an older or newer block than we do.
            debug!(%peer, reason, "a transaction from another validator was not taken");
        }
    }
}
