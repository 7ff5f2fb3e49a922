//! What the light client sees, for the page: the first header, the live feed, a fork.

use std::{rc::Rc, time::Duration};

use futures::{StreamExt as _, channel::mpsc::Receiver};
use nesa_light::{LightClient, client::Event};
use nesa_messages::{ConflictView, FromWorker, NetworkPhase, PeerRow, Problem};
use nesa_platform::time::{self, Instant};

use crate::{
    app::{App, Chain},
    boot::Stop,
    view,
};

/// How long a first verified header may take before the next try.
const READY_LIMIT: Duration = Duration::from_secs(20);
/// How often the page is told how the dialling goes.
const LOOK: Duration = Duration::from_millis(250);
/// Queries of an earlier visit are looked up again this often, and this many times: their deadlines
/// are minutes away at most.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
const LOOKS: u32 = 120;
/// Rows of the first batch worth showing; more is history nobody scrolls to.
const SHOWN_ROWS: usize = 120;
/// Behind by this many headers is "syncing"; less is the ordinary rhythm of a live feed.
const SYNC_GAP: u64 = 8;

impl App {
    /// Waits for the first verified header; tells a liar from a silence. `true` when a peer's head is
    /// followed already: a header from this device's store says nothing about the network.
    pub(crate) async fn first_header(
        &self,
        light: &LightClient,
        events: &mut Receiver<Event>,
    ) -> Result<bool, Stop> {
        let start = Instant::now();
        let (mut refused, mut live) = (None, false);
        while start.elapsed() < READY_LIMIT {
            let ready = light.ready(LOOK).await.is_ok();
            while let Ok(event) = events.try_recv() {
                match event {
                    Event::Dropped { what, got, expected, .. } => {
                        refused = Some((what, got, expected));
                    }
                    Event::Syncing { height, target } => {
                        self.set_network(NetworkPhase::Syncing { height, target });
                    }
                    Event::Live { .. } => live = true,
                    _ => {}
                }
            }
            if ready {
                return Ok(live);
            }
            let peers = light.peers();
            let dropped = peers.iter().filter(|peer| peer.offence.is_some()).count();
            if let Some((what, got, expected)) = &refused
                && dropped == peers.len()
            {
                return Err(Stop::Refused(wrong_network(what, got, expected)));
            }
            let tried = peers.iter().filter(|peer| peer.failures > 0 || peer.rtt_ms.is_some());
            self.set_network(NetworkPhase::Connecting { tried: tried.count() as u32 });
        }
        Err(Stop::Retry(Problem::new(
            "no-peers",
            "No node of the network gave a header in time.",
            "Check your connection; this page keeps trying.",
        )))
    }

    /// Passes on what the light client sees, until the network proves to be wrong.
    pub(crate) async fn follow(
        self: Rc<Self>,
        chain: &Chain,
        mut events: Receiver<Event>,
        live: bool,
    ) -> Option<Problem> {
        let light = &chain.light;
        let rows: Vec<_> = light.recent().into_iter().rev().take(SHOWN_ROWS).collect();
        let blocks = rows.iter().rev().map(|item| view::block_row(item, 0.0, 1, None)).collect();
        self.port.send(&FromWorker::Blocks { blocks });
        self.set_status(|status| {
            if live {
                status.network = NetworkPhase::Live;
            }
            status.height = light.height();
            status.peers = peer_rows(light);
        });
        while let Some(event) = events.next().await {
            match event {
                Event::Headers(rows) => {
                    let now = time::now_ms();
                    let skip = rows.len().saturating_sub(SHOWN_ROWS);
                    let blocks = rows[skip..]
                        .iter()
                        .map(|row| {
                            view::block_row(&row.certified, row.checked_ms, row.batch, Some(now))
                        })
                        .collect();
                    self.port.send(&FromWorker::Blocks { blocks });
                    self.set_status(|status| {
                        status.height = light.height();
                        status.peers = peer_rows(light);
                    });
                }
                Event::Syncing { height, target } if target > height + SYNC_GAP => {
                    self.set_network(NetworkPhase::Syncing { height, target });
                }
                Event::Syncing { .. } => {}
                Event::Live { .. } => self.set_network(NetworkPhase::Live),
                Event::Offline { reason } => {
                    let problem = Problem::new(
                        "no-peers",
                        format!("No node of the network answers: {reason}."),
                        "This page keeps trying.",
                    );
                    self.set_network(NetworkPhase::Offline { retry_ms: 700, problem });
                }
                Event::Dropped { what, got, expected, .. } => {
                    if light.peers().iter().all(|peer| peer.offence.is_some()) {
                        return Some(wrong_network(&what, &got, &expected));
                    }
                    self.set_status(|status| status.peers = peer_rows(light));
                }
                Event::Conflict(conflict) => {
                    let first = &conflict.ours.header;
                    let second = conflict.theirs.last().map_or(first, |item| &item.header);
                    self.port.send(&FromWorker::Conflict {
                        conflict: ConflictView {
                            height: first.height(),
                            first: first.hash().to_string(),
                            second: second.hash().to_string(),
                            peer: String::new(),
                        },
                    });
                    return Some(
                        Problem::new(
                            "fork",
                            "Two different final blocks of one height were seen.",
                            "Believe nothing from this network; the evidence is kept on this device.",
                        )
                        .with(second.hash().to_string(), first.hash().to_string()),
                    );
                }
            }
        }
        None
    }

    /// What waits for a connection: money proven, interrupted queries looked up.
    pub(crate) async fn after_connect(self: Rc<Self>) {
        self.loaded().await;
        self.refresh_wallet().await;
        self.follow_open();
        for _ in 0..LOOKS {
            self.look_up_interrupted().await;
            if !self.has_open_ends() {
                break;
            }
            time::sleep(LOOK_AGAIN).await;
        }
        self.send_history().await;
    }
}

fn wrong_network(what: &str, got: &str, expected: &str) -> Problem {
    Problem::new(
        "wrong-network",
        format!("Every node of this origin failed a check: {what}."),
        "Nothing private was sent. Open this page from a node of the network you trust.",
    )
    .with(got, expected)
}

fn peer_rows(light: &LightClient) -> Vec<PeerRow> {
    light
        .peers()
        .into_iter()
        .map(|peer| PeerRow {
            peer: peer.name.rsplit("/p2p/").next().unwrap_or_default().to_owned(),
            address: peer.name,
            headers: peer.headers,
            rtt_ms: peer.rtt_ms,
            offence: peer.offence,
        })
        .collect()
}
