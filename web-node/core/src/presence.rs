//! Where a node can be reached, and what has to be there before it is drawn: fetching, funding, registering, renewing.

use crate::{
    larder::Larder,
    metrics::{Counters, Phase},
    register::{RegisterError, Registrar},
};
use futures::StreamExt as _;
use nesa_light::LightClient;
use nesa_platform::{
    net::{Event, Network},
    time::{self, Instant},
};
use std::{sync::Arc, time::Duration};

/// Pause before a failed registration is tried again.
const RETRY: Duration = Duration::from_secs(3);
/// Pause between two looks at whether the registration wants to be renewed.
const RENEW_LOOK: Duration = Duration::from_secs(20);

/// Keeps a node reachable and its record true.
pub(crate) struct Presence {
    pub(crate) network: Network,
    pub(crate) light: LightClient,
    pub(crate) relays: Vec<String>,
    pub(crate) announce: Vec<String>,
    pub(crate) registrar: Arc<Registrar>,
    pub(crate) larder: Option<Arc<Larder>>,
    pub(crate) counters: Arc<Counters>,
}

impl Presence {
    pub(crate) async fn keep(self) {
        let mut events = self.network.events();
        while let Err(error) = self.light.ready(RETRY).await {
            self.counters.problem(&error);
        }
        if let Some(larder) = &self.larder {
            self.counters.enter(Phase::Fetching);
            // Who is registered may be drawn at once.
            while let Err(error) = larder.stock(&self.network.address()).await {
                if self.counters.phase() >= Phase::Stopping {
                    return;
                }
                self.counters.problem(&error);
                time::sleep(RETRY).await;
            }
        }
        self.until(|| self.registrar.fund()).await;
        if !self.relays.is_empty() {
            self.counters.enter(Phase::Reserving);
            self.until(|| self.reserve()).await;
        }
        self.counters.enter(Phase::Registering);
        self.until(|| self.registrar.register(self.addresses())).await;
        self.counters.enter(Phase::Serving);
        // New addresses, of a relay that came back for instance, are published; and the
        // registration is renewed in good time.
        let mut looked = Instant::now();
        loop {
            let left = RENEW_LOOK.saturating_sub(looked.elapsed());
            let changed = match time::timeout(left, events.next()).await {
                Ok(None) => return,
                Ok(Some(event)) => matches!(event, Event::Listening { .. }),
                Err(_) => false,
            };
            let due = looked.elapsed() >= RENEW_LOOK;
            if due {
                looked = Instant::now();
            }
            if (changed || due) && self.counters.phase() == Phase::Serving {
                self.until(|| self.registrar.register(self.addresses())).await;
            }
        }
    }

    /// Tries until it works, and shows what is in the way.
    async fn until<F>(&self, attempt: impl Fn() -> F)
    where
        F: Future<Output = Result<(), RegisterError>>,
    {
        while let Err(error) = attempt().await {
            // A node that stops has nothing to tell any more.
            if self.counters.phase() >= Phase::Stopping {
                return;
            }
            tracing::debug!(%error, "registration waits");
            self.counters.problem(&error);
            time::sleep(RETRY).await;
        }
    }

    /// Reserves a place at one relay at least; the network keeps it from then on.
    async fn reserve(&self) -> Result<(), RegisterError> {
        let mut reserved = false;
        for relay in &self.relays {
            match self.network.listen_relay(relay).await {
                Ok(_) => reserved = true,
                Err(error) => tracing::debug!(%error, relay, "a relay does not take us"),
            }
        }
        if reserved { Ok(()) } else { Err(RegisterError::Unreachable) }
    }

    /// The announced addresses; without them WebSocket first, which every client can dial, in a fixed
    /// order, so that the record changes only when an address does.
    fn addresses(&self) -> Vec<String> {
        if !self.announce.is_empty() {
            return self.announce.clone();
        }
        let mut own = self.network.listen_addresses();
        own.sort_by_key(|address| (address.contains("/webrtc-direct"), address.clone()));
        own.dedup();
        own
    }
}
