//! The light client against peers that lie, withhold, lag or fall silent: one body for both worlds.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use super::Quorum;
use futures::StreamExt as _;
use nesa_light::{
    AskError, Event, LightClient,
    checkpoint::CheckpointStore,
    client::to_wire,
    peer::{ChainPeer, Heads, PeerError, SharedPeer},
    sync::Certified,
};
use nesa_platform::{BoxFuture, storage::Store, time};
use nesa_primitives::Hash;
use nesa_wire::chain::{Request, Response, StateAnswer};

/// What a peer does wrong.
#[derive(Clone, Copy, PartialEq)]
enum Vice {
    None,
    /// Claims another chain.
    WrongChain,
    /// Sends headers whose certificates are another group's.
    Forges,
    /// Claims to be ahead but gives no headers.
    Withholds,
    /// Never answers.
    Silent,
}

/// A peer in memory that holds some headers of a chain.
struct Fake {
    name: &'static str,
    chain: Hash,
    headers: Mutex<Vec<Certified>>,
    vice: Vice,
    forged: Vec<Certified>,
    asked: Mutex<usize>,
}

impl Fake {
    fn new(name: &'static str, quorum: &Quorum, headers: &[Certified], vice: Vice) -> Arc<Self> {
        let forger = Quorum::deal(99, quorum.trust.chain_id.as_str());
        let forged = headers
            .iter()
            .map(|item| Certified {
                header: item.header.clone(),
                finalization: Some(forger.certify(&item.header)),
            })
            .collect();
        Arc::new(Self {
            name,
            chain: quorum.trust.digest(),
            headers: Mutex::new(headers.to_vec()),
            vice,
            forged,
            asked: Mutex::new(0),
        })
    }

    fn answer(&self, request: Request) -> Response {
        *self.asked.lock().unwrap() += 1;
        let headers = self.headers.lock().unwrap();
        match request {
            Request::Status => {
                let head = headers.last().map(|item| &item.header);
                let lead = if self.vice == Vice::Withholds { 50 } else { 0 };
                Response::Status {
                    chain: if self.vice == Vice::WrongChain { Hash::ZERO } else { self.chain },
                    height: head.map_or(0, |h| h.height()) + lead,
                    view: head.map_or(0, |h| h.view()),
                    timestamp_ms: head.map_or(0, |h| h.timestamp_ms()),
                }
            }
            Request::Headers { from, max } => {
                let source = match self.vice {
                    Vice::Forges => &self.forged,
                    _ => &*headers,
                };
                let some = source
                    .iter()
                    .filter(|item| item.header.height() >= from)
                    .take(usize::from(max))
                    .map(to_wire)
                    .collect();
                Response::Headers(some)
            }
            Request::State { keys } => {
                let Some(head) = headers.last().map(to_wire) else {
                    return Response::Headers(Vec::new());
                };
                let entries = keys
                    .into_iter()
                    .map(|key| nesa_wire::chain::StateEntry {
                        key,
                        value: Some(b"whatever".as_slice().into()),
                        proof: b"not a proof".as_slice().into(),
                    })
                    .collect();
                Response::State(StateAnswer {
                    header: head.header,
                    finalization: head.finalization.unwrap_or_default(),
                    entries,
                })
            }
            Request::Seed { .. } => Response::Seed(Some([7; 48].as_slice().into())),
            _ => Response::TxStatus(None),
        }
    }
}

impl ChainPeer for Fake {
    fn name(&self) -> String {
        self.name.to_owned()
    }

    fn ask(&self, request: Request) -> BoxFuture<'_, Result<Response, PeerError>> {
        Box::pin(async move {
            if self.vice == Vice::Silent {
                return Err(PeerError::Timeout { peer: self.name(), ms: 0 });
            }
            Ok(self.answer(request))
        })
    }

    fn heads(&self) -> BoxFuture<'_, Result<Heads, PeerError>> {
        // A feed that never speaks: what follows comes from walking.
        Box::pin(async {
            #[cfg(not(target_family = "wasm"))]
            let heads: Heads = futures::stream::pending().boxed();
            #[cfg(target_family = "wasm")]
            let heads: Heads = futures::stream::pending().boxed_local();
            Ok(heads)
        })
    }
}

async fn client(quorum: &Quorum, peers: Vec<SharedPeer>) -> LightClient {
    LightClient::start(quorum.trust.clone(), None, peers).await.unwrap()
}

fn offences(client: &LightClient) -> Vec<(String, bool)> {
    client.peers().into_iter().map(|peer| (peer.name, peer.offence.is_some())).collect()
}

pub(crate) async fn an_honest_peer_is_enough_beside_liars() {
    let quorum = Quorum::deal(1, "test-a");
    let chain = quorum.chain(5);
    let peers: Vec<SharedPeer> = vec![
        Fake::new("wrong", &quorum, &chain, Vice::WrongChain),
        Fake::new("forger", &quorum, &chain, Vice::Forges),
        Fake::new("silent", &quorum, &chain, Vice::Silent),
        Fake::new("honest", &quorum, &chain, Vice::None),
    ];
    let client = client(&quorum, peers).await;
    client.ready(Duration::from_secs(30)).await.unwrap();
    assert_eq!(client.head().unwrap(), chain[4].header);
    let judged = offences(&client);
    assert!(judged.contains(&("wrong".into(), true)));
    assert!(judged.contains(&("forger".into(), true)));
    assert!(judged.contains(&("silent".into(), false)), "silence is no offence");
    assert!(judged.contains(&("honest".into(), false)));
}

pub(crate) async fn a_forger_alone_shows_nothing() {
    let quorum = Quorum::deal(1, "test-a");
    let chain = quorum.chain(3);
    let peer: SharedPeer = Fake::new("forger", &quorum, &chain, Vice::Forges);
    let client = client(&quorum, vec![peer]).await;
    let mut events = client.events();
    let dropped = async {
        while let Some(event) = events.next().await {
            if let Event::Dropped { what, .. } = event {
                return what;
            }
        }
        String::new()
    };
    // The peer may have been dropped before anyone listened; its standing tells as well.
    let _ = time::timeout(Duration::from_millis(500), dropped).await;
    assert!(client.ready(Duration::from_millis(300)).await.is_err());
    assert!(client.head().is_none());
    assert_eq!(offences(&client), [("forger".to_owned(), true)]);
    assert!(matches!(client.seed(1).await, Err(AskError::NoPeer { .. })));
}

pub(crate) async fn a_withholding_peer_is_passed_over_but_not_dropped() {
    let quorum = Quorum::deal(1, "test-a");
    let chain = quorum.chain(4);
    let withholding = Fake::new("withholding", &quorum, &[], Vice::Withholds);
    let peers: Vec<SharedPeer> =
        vec![withholding.clone(), Fake::new("honest", &quorum, &chain, Vice::None)];
    let client = client(&quorum, peers).await;
    client.ready(Duration::from_secs(30)).await.unwrap();
    assert_eq!(client.head().unwrap(), chain[3].header);
    assert!(*withholding.asked.lock().unwrap() >= 1);
    assert!(offences(&client).iter().all(|(_, dropped)| !dropped));
}

pub(crate) async fn a_false_state_proof_and_a_false_seed_drop_their_peer() {
    let quorum = Quorum::deal(1, "test-a");
    let chain = quorum.chain(2);
    let peer: SharedPeer = Fake::new("liar", &quorum, &chain, Vice::None);
    let first = client(&quorum, vec![peer]).await;
    first.ready(Duration::from_secs(30)).await.unwrap();
    let wrong = first.prove(&[Hash([1; 32])]).await.unwrap_err();
    assert!(matches!(wrong, AskError::Wrong { .. }), "{wrong}");
    assert_eq!(offences(&first), [("liar".to_owned(), true)]);

    let peer: SharedPeer = Fake::new("liar", &quorum, &chain, Vice::None);
    let second = client(&quorum, vec![peer]).await;
    second.ready(Duration::from_secs(30)).await.unwrap();
    assert!(matches!(second.seed(1).await.unwrap_err(), AskError::Wrong { .. }));
    assert_eq!(offences(&second), [("liar".to_owned(), true)]);
}

pub(crate) async fn a_header_is_found_later_and_the_checkpoint_survives() {
    let quorum = Quorum::deal(1, "test-a");
    let mut chain = quorum.chain(6);
    chain[3].finalization = None;
    let store = Store::memory();
    let checkpoints = CheckpointStore::new(store, quorum.trust.digest());
    let peer: SharedPeer = Fake::new("honest", &quorum, &chain, Vice::None);
    let client = LightClient::start(quorum.trust.clone(), Some(checkpoints.clone()), vec![peer])
        .await
        .unwrap();
    client.ready(Duration::from_secs(30)).await.unwrap();
    // A first header jumps to the head; an older one is fetched and linked when asked for.
    let (header, descendants) = client.header(4).await.unwrap();
    assert_eq!(header.header, chain[3].header);
    assert_eq!(descendants.len(), 1, "the next header carries the certificate");
    for _ in 0..50 {
        if checkpoints.load().await.is_some() {
            break;
        }
        time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(checkpoints.load().await.unwrap().header, chain[5].header);

    let offline =
        LightClient::start(quorum.trust.clone(), Some(checkpoints), Vec::new()).await.unwrap();
    assert_eq!(offline.height(), 6, "a checkpoint is verified again and then stands");
    let other = Quorum::deal(2, "test-a");
    let moved = CheckpointStore::new(Store::memory(), other.trust.digest());
    moved.save(&chain[5]).await;
    let stranger = LightClient::start(other.trust.clone(), Some(moved), Vec::new()).await.unwrap();
    assert_eq!(stranger.height(), 0, "one that does not verify is not believed");
}
