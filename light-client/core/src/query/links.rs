//! The streams of one query: a task per server, frames in and out, nothing understood here.
//!
//! A link may be written to before its stream stands; frames queue. Whatever ends a link, a failed
//! dial, a refusal, a closed or broken stream, arrives as [`Input::Lost`] once. Dropping
//! [`Links`] stops every task and closes every stream, so a cancelled query leaves nothing behind.

use std::{collections::HashMap, hash::Hash, time::Duration};

use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _, channel::mpsc};
use nesa_platform::{
    MaybeSend, MaybeSync,
    net::Network,
    task::{self, Guard},
    time::{self, Instant},
};
use nesa_primitives::Address;
use nesa_wire::Protocol;

/// Reaching a node may take this long, over all its addresses.
const CONNECT_LIMIT: Duration = Duration::from_secs(12);
/// Frames of one link that wait for the query's loop; a server that sends more waits on the wire.
const FRAME_BUFFER: usize = 8;

/// A name for a stream of a query.
pub(crate) trait LinkName: Copy + Eq + Hash + MaybeSend + MaybeSync + 'static {}
impl<L: Copy + Eq + Hash + MaybeSend + MaybeSync + 'static> LinkName for L {}

/// What comes from the links.
pub(crate) enum Input<Link> {
    /// The stream stands. Opening it, on a connection that stood, took about one round trip.
    Connected(Link, Duration),
    /// One frame.
    Received(Link, Bytes),
    /// The link has ended.
    Lost(Link, String),
}

struct Open {
    outbox: mpsc::UnboundedSender<Option<Bytes>>,
    _task: Guard,
    heard: Instant,
    up: u64,
    down: u64,
}

/// Every stream of one query.
pub(crate) struct Links<Link> {
    network: Network,
    protocol: Protocol,
    sender: mpsc::Sender<Input<Link>>,
    inputs: mpsc::Receiver<Input<Link>>,
    open: HashMap<Link, Open>,
    /// Bytes of links that are gone: sent and received, by link.
    gone: Vec<(Link, u64, u64)>,
}

impl<Link: LinkName> Links<Link> {
    pub(crate) fn new(network: Network, protocol: Protocol) -> Self {
        let (sender, inputs) = mpsc::channel(FRAME_BUFFER);
        Self { network, protocol, sender, inputs, open: HashMap::new(), gone: Vec::new() }
    }

    /// Starts to reach `node` at one of `addresses`.
    pub(crate) fn connect(&mut self, link: Link, node: Address, addresses: Vec<String>) {
        let (outbox, orders) = mpsc::unbounded();
        let (network, sender) = (self.network.clone(), self.sender.clone());
        let protocol = self.protocol;
        let task = task::spawn(async move {
            let mut sender = sender;
            let ran = run(&network, protocol, link, node, addresses, orders, &mut sender).await;
            if let Err(reason) = ran {
                // The query may be over, in which case nobody listens any more.
                let _ = sender.send(Input::Lost(link, reason)).await;
            }
        });
        let open =
            Open { outbox, _task: task.abort_on_drop(), heard: Instant::now(), up: 0, down: 0 };
        self.open.insert(link, open);
    }

    /// Queues one frame.
    pub(crate) fn send(&mut self, link: Link, frame: Bytes) {
        if let Some(open) = self.open.get_mut(&link) {
            open.up += frame.len() as u64 + 4;
            // A closed outbox means that `Lost` is on its way.
            let _ = open.outbox.unbounded_send(Some(frame));
        }
    }

    /// Closes the stream after what was queued.
    pub(crate) fn close(&mut self, link: Link) {
        if let Some(open) = self.open.get(&link) {
            let _ = open.outbox.unbounded_send(None);
        }
    }

    /// Ends the link at once.
    pub(crate) fn abandon(&mut self, link: Link) {
        if let Some(open) = self.open.remove(&link) {
            self.gone.push((link, open.up, open.down));
        }
    }

    /// The next thing that happens, or `None` when nothing does within `limit`.
    pub(crate) async fn next(&mut self, limit: Duration) -> Option<Input<Link>> {
        loop {
            let input = time::timeout(limit, self.inputs.next()).await.ok()??;
            let link = match &input {
                Input::Connected(link, _) | Input::Received(link, _) | Input::Lost(link, _) => {
                    *link
                }
            };
            // A link that was abandoned may still have something in the queue.
            let Some(open) = self.open.get_mut(&link) else { continue };
            if let Input::Received(_, frame) = &input {
                open.down += frame.len() as u64 + 4;
            }
            open.heard = Instant::now();
            return Some(input);
        }
    }

    /// How long ago something was heard on the link.
    pub(crate) fn silence(&self, link: Link) -> Duration {
        self.open.get(&link).map_or(Duration::ZERO, |open| open.heard.elapsed())
    }

    /// The clock of silence starts anew: it runs only while an answer is owed.
    pub(crate) fn touch(&mut self, link: Link) {
        if let Some(open) = self.open.get_mut(&link) {
            open.heard = Instant::now();
        }
    }

    /// Bytes sent and received on every link so far, frames' headers included.
    pub(crate) fn bytes(&self) -> impl Iterator<Item = (Link, u64, u64)> + '_ {
        let open = self.open.iter().map(|(link, open)| (*link, open.up, open.down));
        open.chain(self.gone.iter().copied())
    }
}

/// Connects, then moves frames both ways until one side ends.
async fn run<Link: LinkName>(
    network: &Network,
    protocol: Protocol,
    link: Link,
    node: Address,
    addresses: Vec<String>,
    mut orders: mpsc::UnboundedReceiver<Option<Bytes>>,
    inputs: &mut mpsc::Sender<Input<Link>>,
) -> Result<(), String> {
    let open = async {
        let mut reason = "the node has no address".to_owned();
        for address in &addresses {
            // The record's addresses are its operator's word; the handshake proves the key.
            match network.dial(address).await {
                Ok(reached) if reached == node => {
                    let start = Instant::now();
                    match network.open(node, protocol).await {
                        Ok(stream) => return Ok((stream, start.elapsed())),
                        Err(error) => reason = error.to_string(),
                    }
                }
                Ok(_) => reason = format!("{address} names another node"),
                Err(error) => reason = error.to_string(),
            }
        }
        Err(reason)
    };
    let (stream, round_trip) =
        time::timeout(CONNECT_LIMIT, open).await.map_err(|elapsed| elapsed.to_string())??;
    let (mut reader, mut writer) = stream.split();
    // How long an answer may take is the query's business: it knows what is owed.
    reader.set_idle(Duration::from_secs(3600));
    let gone = |_| "the query is over".to_owned();
    inputs.send(Input::Connected(link, round_trip)).await.map_err(gone)?;
    let write = async {
        while let Some(Some(frame)) = orders.next().await {
            writer.send(&frame).await.map_err(|error| error.to_string())?;
        }
        writer.close().await.map_err(|error| error.to_string())?;
        // After the last frame the answers may still be on their way.
        futures::future::pending::<Result<(), String>>().await
    };
    let mut inbox = inputs.clone();
    let read = async {
        loop {
            match reader.recv().await {
                Ok(Some(frame)) => inbox.send(Input::Received(link, frame)).await.map_err(gone)?,
                Ok(None) => return Err("the node closed the stream".to_owned()),
                Err(error) => return Err(error.to_string()),
            }
        }
    };
    let (write, read) = (std::pin::pin!(write), std::pin::pin!(read));
    match futures::future::select(write, read).await {
        futures::future::Either::Left((ended, _)) => ended,
        futures::future::Either::Right((ended, _)) => ended,
    }
}
