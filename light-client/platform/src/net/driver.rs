//! The task that owns the swarm.

use super::{
    Event, Network, identity,
    transport::{Behaviour, BehaviourEvent},
};
use crate::task;
use futures::{
    FutureExt as _, StreamExt as _,
    channel::{mpsc, oneshot},
    stream::FuturesUnordered,
};
use libp2p::{
    Multiaddr, PeerId, Swarm,
    core::transport::ListenerId,
    multiaddr::Protocol as Part,
    swarm::{ConnectionId, SwarmEvent, dial_opts::DialOpts, dial_opts::PeerCondition},
};
use nesa_primitives::Address;
use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Peers whose addresses are remembered; the one remembered longest ago goes first.
const BOOK: usize = 1024;
/// Addresses remembered for one peer.
const ADDRESSES: usize = 4;
/// Events a subscriber may leave unread.
const EVENTS: usize = 256;
/// The waits before a lost relay reservation is tried again.
const RETRY: [Duration; 5] = [
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(15),
];
/// Bytes between two flushes towards a peer on webrtc-direct: a message above 8 KiB, its envelope
/// of a few bytes included, kills the stream.
const WEBRTC_PIECE: usize = (8 << 10) - 64;

type Reply<T> = oneshot::Sender<Result<T, String>>;

pub(super) enum Command {
    Dial { peer: Address, addresses: Vec<Multiaddr>, reply: Reply<()> },
    Listen { address: Multiaddr, reply: Reply<String> },
    Disconnect(Address),
    Stop(oneshot::Sender<()>),
}

/// What the handles and the driver both look at.
#[derive(Default)]
pub(super) struct Shared {
    peers: Mutex<HashMap<Address, Links>>,
    book: Mutex<Book>,
    listening: Mutex<Vec<String>>,
    subscribers: Mutex<Vec<mpsc::Sender<Event>>>,
}

/// The live connections to one peer.
#[derive(Default)]
struct Links {
    connections: usize,
    webrtc: usize,
}

#[derive(Default)]
struct Book {
    addresses: HashMap<Address, Vec<Multiaddr>>,
    order: VecDeque<Address>,
}

impl Shared {
    pub(super) fn peers(&self) -> Vec<Address> {
        lock(&self.peers).keys().copied().collect()
    }

    pub(super) fn connected(&self, peer: &Address) -> bool {
        lock(&self.peers).contains_key(peer)
    }

    /// How many bytes a stream to `peer` may write between two flushes, where that is limited.
    pub(super) fn piece(&self, peer: &Address) -> Option<usize> {
        lock(&self.peers).get(peer).filter(|links| links.webrtc > 0).map(|_| WEBRTC_PIECE)
    }

    pub(super) fn listening(&self) -> Vec<String> {
        lock(&self.listening).clone()
    }

    pub(super) fn remember(&self, peer: Address, address: Multiaddr) {
        let mut book = lock(&self.book);
        if !book.addresses.contains_key(&peer) {
            book.order.push_back(peer);
            if book.order.len() > BOOK
                && let Some(oldest) = book.order.pop_front()
            {
                book.addresses.remove(&oldest);
            }
        }
        let known = book.addresses.entry(peer).or_default();
        known.retain(|old| old != &address);
        known.insert(0, address);
        known.truncate(ADDRESSES);
    }

    pub(super) fn known(&self, peer: &Address) -> Vec<Multiaddr> {
        lock(&self.book).addresses.get(peer).cloned().unwrap_or_default()
    }

    pub(super) fn subscribe(&self) -> mpsc::Receiver<Event> {
        let (sender, receiver) = mpsc::channel(EVENTS);
        lock(&self.subscribers).push(sender);
        receiver
    }

    fn publish(&self, event: Event) {
        lock(&self.subscribers).retain_mut(|subscriber| {
            // A full queue loses this event; a dropped one is forgotten.
            subscriber
                .try_send(event.clone())
                .map_or_else(|error| !error.is_disconnected(), |()| true)
        });
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts the driver of `swarm`.
pub(super) fn start(swarm: Swarm<Behaviour>, local: Address) -> Network {
    let control = swarm.behaviour().stream.new_control();
    let (commands, receiver) = mpsc::channel(64);
    let shared = Arc::new(Shared::default());
    let driver = Driver {
        swarm,
        shared: shared.clone(),
        dials: HashMap::new(),
        listeners: HashMap::new(),
        retries: FuturesUnordered::new(),
    };
    task::spawn(driver.run(receiver));
    Network { local, control, commands, shared }
}

struct Driver {
    swarm: Swarm<Behaviour>,
    shared: Arc<Shared>,
    /// Who waits for which dial.
    dials: HashMap<ConnectionId, (Address, Vec<Reply<()>>)>,
    listeners: HashMap<ListenerId, Listener>,
    /// Lost relay reservations that are due again.
    retries: FuturesUnordered<task::BoxFuture<'static, (Multiaddr, usize)>>,
}

struct Listener {
    asked: Multiaddr,
    reply: Option<Reply<String>>,
    /// Addresses it brought.
    addresses: Vec<String>,
    /// Failures in a row, for the wait before the next attempt.
    failures: usize,
}

impl Driver {
    async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        loop {
            futures::select! {
                command = commands.next() => match command {
                    Some(Command::Stop(done)) => {
                        drop(self);
                        let _ = done.send(());
                        return;
                    }
                    Some(command) => self.command(command),
                    // The last handle is gone.
                    None => return,
                },
                event = self.swarm.select_next_some() => self.event(event),
                retry = self.retries.select_next_some() => {
                    let (address, failures) = retry;
                    self.listen(address, None, failures);
                }
            }
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Dial { peer, addresses, reply } => self.dial(peer, addresses, reply),
            Command::Listen { address, reply } => self.listen(address, Some(reply), 0),
            Command::Disconnect(peer) => {
                if let Some(peer) = identity::peer_id(&peer) {
                    // An error means there is no connection: what was wanted.
                    let _ = self.swarm.disconnect_peer_id(peer);
                }
            }
            // Handled by the loop.
            Command::Stop(_) => {}
        }
    }

    fn dial(&mut self, peer: Address, addresses: Vec<Multiaddr>, reply: Reply<()>) {
        if self.shared.connected(&peer) {
            let _ = reply.send(Ok(()));
            return;
        }
        if let Some((_, waiting)) = self.dials.values_mut().find(|(to, _)| *to == peer) {
            waiting.push(reply);
            return;
        }
        let Some(peer_id) = identity::peer_id(&peer) else {
            let _ = reply.send(Err("the node key is no point on the curve".into()));
            return;
        };
        let options = DialOpts::peer_id(peer_id)
            .addresses(addresses)
            .condition(PeerCondition::Always)
            .build();
        let id = options.connection_id();
        match self.swarm.dial(options) {
            Ok(()) => {
                self.dials.insert(id, (peer, vec![reply]));
            }
            Err(error) => {
                let _ = reply.send(Err(error.to_string()));
            }
        }
    }

    fn listen(&mut self, asked: Multiaddr, reply: Option<Reply<String>>, failures: usize) {
        match self.swarm.listen_on(asked.clone()) {
            Ok(id) => {
                let listener = Listener { asked, reply, addresses: Vec::new(), failures };
                self.listeners.insert(id, listener);
            }
            Err(error) => match reply {
                Some(reply) => {
                    let _ = reply.send(Err(error.to_string()));
                }
                None => self.retry(asked, failures),
            },
        }
    }

    fn retry(&mut self, asked: Multiaddr, failures: usize) {
        let wait = RETRY[failures.min(RETRY.len() - 1)];
        self.retries.push(
            async move {
                crate::time::sleep(wait).await;
                (asked, failures + 1)
            }
            .boxed_here(),
        );
    }

    fn event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                let remote = endpoint.get_remote_address();
                self.connected(peer_id, connection_id, remote);
            }
            SwarmEvent::ConnectionClosed { peer_id, endpoint, .. } => {
                self.disconnected(peer_id, endpoint.get_remote_address());
            }
            SwarmEvent::OutgoingConnectionError { connection_id, error, .. } => {
                if let Some((_, waiting)) = self.dials.remove(&connection_id) {
                    let reason = error.to_string();
                    for reply in waiting {
                        let _ = reply.send(Err(reason.clone()));
                    }
                }
            }
            SwarmEvent::NewListenAddr { listener_id, address } => {
                self.listening(listener_id, address);
            }
            SwarmEvent::ExpiredListenAddr { listener_id, address } => {
                let address = self.with_own_id(address).to_string();
                // A relayed listener ends as a whole.
                if let Some(listener) = self.listeners.get_mut(&listener_id)
                    && !is_relayed(&listener.asked)
                {
                    listener.addresses.retain(|known| known != &address);
                    self.lost(address);
                }
            }
            SwarmEvent::ListenerClosed { listener_id, reason, .. } => {
                let reason = reason.err().map_or_else(|| "closed".to_owned(), |e| e.to_string());
                self.closed(listener_id, &reason);
            }
            SwarmEvent::ListenerError { listener_id, error } => {
                tracing::debug!(?listener_id, %error, "a listener reports an error");
            }
            SwarmEvent::IncomingConnectionError { error, .. } => {
                tracing::debug!(%error, "an incoming connection failed");
            }
            _ => {}
        }
    }

    fn connected(&mut self, peer_id: PeerId, id: ConnectionId, remote: &Multiaddr) {
        let Some(peer) = identity::address(&peer_id) else {
            // Registered nodes and clients all have ed25519 keys.
            let _ = self.swarm.disconnect_peer_id(peer_id);
            return;
        };
        let first = {
            let mut peers = lock(&self.shared.peers);
            let links = peers.entry(peer).or_default();
            links.connections += 1;
            links.webrtc += usize::from(is_webrtc(remote));
            links.connections == 1
        };
        if let Some((_, waiting)) = self.dials.remove(&id) {
            for reply in waiting {
                let _ = reply.send(Ok(()));
            }
        }
        if first {
            let relayed = is_relayed(remote);
            tracing::debug!(%peer, relayed, "connected");
            self.shared.publish(Event::Connected { peer, relayed });
        }
    }

    fn disconnected(&mut self, peer_id: PeerId, remote: &Multiaddr) {
        let Some(peer) = identity::address(&peer_id) else { return };
        let last = {
            let mut peers = lock(&self.shared.peers);
            let Some(links) = peers.get_mut(&peer) else { return };
            links.connections = links.connections.saturating_sub(1);
            links.webrtc = links.webrtc.saturating_sub(usize::from(is_webrtc(remote)));
            let last = links.connections == 0;
            if last {
                peers.remove(&peer);
            }
            last
        };
        if last {
            tracing::debug!(%peer, "disconnected");
            self.shared.publish(Event::Disconnected { peer });
        }
    }

    fn listening(&mut self, id: ListenerId, address: Multiaddr) {
        let asked = self.listeners.get(&id).map(|listener| &listener.asked);
        let address = match asked.filter(|asked| is_relayed(asked)) {
            // A relay lists every address it has; the one that was reached is known to work.
            Some(asked) => self.with_own_id(asked.clone()),
            None => {
                let address = self.with_own_id(address);
                // A relay tells its reservations' addresses only if it knows some of its own.
                self.swarm.add_external_address(address.clone());
                address
            }
        };
        let text = address.to_string();
        if self.listeners.get(&id).is_some_and(|listener| listener.addresses.contains(&text)) {
            return;
        }
        {
            let mut listening = lock(&self.shared.listening);
            if !listening.contains(&text) {
                listening.push(text.clone());
            }
        }
        if let Some(listener) = self.listeners.get_mut(&id) {
            listener.failures = 0;
            listener.addresses.push(text.clone());
            if let Some(reply) = listener.reply.take() {
                let _ = reply.send(Ok(text.clone()));
            }
        }
        tracing::debug!(address = %text, "listening");
        self.shared.publish(Event::Listening { address: text });
    }

    fn closed(&mut self, id: ListenerId, reason: &str) {
        let Some(listener) = self.listeners.remove(&id) else { return };
        for address in listener.addresses {
            self.lost(address);
        }
        tracing::debug!(address = %listener.asked, reason, "a listener closed");
        match listener.reply {
            Some(reply) => {
                let _ = reply.send(Err(reason.to_owned()));
            }
            None if is_relayed(&listener.asked) => {
                self.retry(listener.asked, listener.failures);
            }
            None => {}
        }
    }

    fn lost(&mut self, address: String) {
        let mut listening = lock(&self.shared.listening);
        let before = listening.len();
        listening.retain(|known| known != &address);
        let changed = listening.len() != before;
        drop(listening);
        if changed {
            self.shared.publish(Event::ListenLost { address });
        }
    }

    fn with_own_id(&self, address: Multiaddr) -> Multiaddr {
        let own = *self.swarm.local_peer_id();
        if address.iter().last() == Some(Part::P2p(own)) {
            address
        } else {
            address.with(Part::P2p(own))
        }
    }
}

fn is_relayed(address: &Multiaddr) -> bool {
    address.iter().any(|part| part == Part::P2pCircuit)
}

fn is_webrtc(address: &Multiaddr) -> bool {
    address.iter().any(|part| matches!(part, Part::WebRTCDirect))
}

/// Boxes a future as the platform's tasks need it.
trait BoxedHere: Future + Sized {
    fn boxed_here<'a>(self) -> task::BoxFuture<'a, Self::Output>
    where
        Self: task::MaybeSend + 'a;
}

impl<F: Future> BoxedHere for F {
    #[cfg(not(target_family = "wasm"))]
    fn boxed_here<'a>(self) -> task::BoxFuture<'a, F::Output>
    where
        F: task::MaybeSend + 'a,
    {
        self.boxed()
    }

    #[cfg(target_family = "wasm")]
    fn boxed_here<'a>(self) -> task::BoxFuture<'a, F::Output>
    where
        F: task::MaybeSend + 'a,
    {
        self.boxed_local()
    }
}
