//! The light client against peers that lie, withhold, lag or fall silent: one body for both worlds.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use super::Quorum;
use bytes::Bytes;
use commonware_codec::Encode as _;
use futures::StreamExt as _;
use nesa_chain::{
    action::{Action, Transfer},
    tx::{SignedTx, Tx},
};
use nesa_crypto::{SecretKey, merkle};
use nesa_light::{
    AskError, Event, LightClient,
    checkpoint::CheckpointStore,
    client::to_wire,
    models::{ModelStore, ModelStoreError, PieceSource},
    peer::{ChainPeer, Heads, PeerError, SharedPeer},
    sync::Certified,
};
use nesa_model::{
    Artifact,
    toy::{self, ToyConfig},
};
use nesa_platform::{BoxFuture, storage::Store, time};
use nesa_primitives::{Amount, Denom, Hash};
use nesa_wire::chain::{Refusal, Request, Response, StateAnswer, TxLocation};

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
    /// Answers with bytes that are no message.
    Babbles,
    /// Answers a question with the answer to another.
    Confuses,
    /// Refuses every question for headers.
    Refuses,
    /// Shows transactions where they are not.
    Misplaces,
    /// Shows transactions in a block that nobody has.
    Foresees,
}

/// A peer in memory that holds some headers of a chain.
struct Fake {
    name: &'static str,
    chain: Hash,
    headers: Mutex<Vec<Certified>>,
    vice: Vice,
    forged: Vec<Certified>,
    asked: Mutex<usize>,
    /// Where the one transaction of the chain is.
    location: Mutex<Option<TxLocation>>,
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
            location: Mutex::new(None),
        })
    }

    fn answer(&self, request: Request) -> Response {
        *self.asked.lock().unwrap() += 1;
        let headers = self.headers.lock().unwrap();
        match request {
            Request::Status if self.vice == Vice::Confuses => Response::Seed(None),
            Request::Headers { .. } if self.vice == Vice::Refuses => {
                Response::Refused { refusal: Refusal::Busy, reason: "too busy".into() }
            }
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
            _ => {
                let location = self.location.lock().unwrap().clone();
                Response::TxStatus(location.map(|honest| match self.vice {
                    // The header of that height is real; the path does not lead to its root.
                    Vice::Misplaces => TxLocation { height: honest.height - 1, ..honest },
                    Vice::Foresees => TxLocation { height: 1_000_000, ..honest },
                    _ => honest,
                }))
            }
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
            if self.vice == Vice::Babbles {
                return Err(PeerError::Malformed { peer: self.name(), reason: "tag 77".into() });
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

pub(crate) async fn babble_and_confusion_drop_a_peer_and_a_refusal_does_not() {
    let quorum = Quorum::deal(1, "test-a");
    let chain = quorum.chain(3);
    let peers: Vec<SharedPeer> = vec![
        Fake::new("babbling", &quorum, &chain, Vice::Babbles),
        Fake::new("confused", &quorum, &chain, Vice::Confuses),
        Fake::new("refusing", &quorum, &chain, Vice::Refuses),
        Fake::new("honest", &quorum, &chain, Vice::None),
    ];
    let client = client(&quorum, peers).await;
    client.ready(Duration::from_secs(30)).await.unwrap();
    assert_eq!(client.head().unwrap(), chain[2].header);
    let judged = offences(&client);
    assert!(judged.contains(&("babbling".into(), true)));
    assert!(judged.contains(&("confused".into(), true)));
    assert!(judged.contains(&("refusing".into(), false)), "a busy peer is no liar");
    assert!(judged.contains(&("honest".into(), false)));
}

/// A chain of three blocks whose second holds one transaction, and where that is.
fn chain_with_transaction(quorum: &Quorum) -> (Vec<Certified>, SignedTx, TxLocation) {
    let payer = SecretKey::from_seed(&[5; 32]);
    let action =
        Action::Transfer(Transfer { to: payer.public(), denom: Denom::NES, amount: Amount(1) });
    let chain = quorum.trust.digest();
    let tx = Tx { chain, sender: payer.public(), nonce: 0, fee: Amount(1), action }.sign(&payer);
    let leaves = [merkle::leaf_hash(&tx.encode()), Hash([3; 32])];
    let proof = merkle::prove(&leaves, 0).unwrap().encode();
    let mut headers: Vec<Certified> = Vec::new();
    for view in 1..=3 {
        let root = if view == 2 { merkle::root_of_hashes(&leaves) } else { Hash::ZERO };
        let header = quorum.block(headers.last().map(|item| &item.header), view, 0, root);
        headers.push(Certified { finalization: Some(quorum.certify(&header)), header });
    }
    (headers, tx, TxLocation { height: 2, index: 0, proof })
}

pub(crate) async fn a_false_inclusion_proof_drops_its_peer_and_another_is_asked() {
    let quorum = Quorum::deal(1, "test-a");
    let (chain, tx, location) = chain_with_transaction(&quorum);
    let peer = |name, vice| {
        let peer = Fake::new(name, &quorum, &chain, vice);
        peer.location.lock().unwrap().replace(location.clone());
        peer
    };
    let peers: Vec<SharedPeer> = vec![
        peer("misplacing", Vice::Misplaces),
        peer("foreseeing", Vice::Foresees),
        peer("honest", Vice::None),
    ];
    let both = client(&quorum, peers).await;
    both.ready(Duration::from_secs(30)).await.unwrap();
    let included = both.included(&tx).await.unwrap().unwrap();
    assert_eq!((included.header.header, included.index), (chain[1].header.clone(), 0));
    let judged = offences(&both);
    assert!(judged.contains(&("misplacing".into(), true)));
    assert!(judged.contains(&("foreseeing".into(), false)), "a block may still come");
    assert!(judged.contains(&("honest".into(), false)));

    let alone = client(&quorum, vec![peer("misplacing", Vice::Misplaces)]).await;
    alone.ready(Duration::from_secs(30)).await.unwrap();
    assert!(matches!(alone.included(&tx).await.unwrap_err(), AskError::Wrong { .. }));
    assert_eq!(offences(&alone), [("misplacing".to_owned(), true)]);
}

/// Gives the pieces of a model, or the same with one bit changed.
struct Pieces {
    name: &'static str,
    artifact: Artifact,
    lies: bool,
}

impl PieceSource for Pieces {
    fn name(&self) -> String {
        self.name.to_owned()
    }

    fn piece(&self, _: Hash, index: u32) -> BoxFuture<'_, Result<Bytes, String>> {
        Box::pin(async move {
            let mut bytes = self.artifact.piece(index as usize).unwrap().to_vec();
            if self.lies && index > 0 {
                bytes[0] ^= 1;
            }
            Ok(bytes.into())
        })
    }
}

pub(crate) async fn a_wrong_piece_of_a_model_drops_its_source() {
    let artifact = toy::artifact(&ToyConfig::default()).unwrap();
    let model = artifact.header().digest();
    let source = |name, lies| {
        Arc::new(Pieces { name, artifact: artifact.clone(), lies }) as Arc<dyn PieceSource>
    };
    let store = Store::memory();
    let models = ModelStore::new(store.clone());
    let alone = models.prepare(&model, &[source("liar", true)], &|_| {}).await;
    assert!(matches!(alone, Err(ModelStoreError::Unavailable { .. })));
    assert_eq!(models.refused().into_keys().collect::<Vec<_>>(), ["liar"]);

    let models = ModelStore::new(store.clone());
    let sources = [source("liar", true), source("honest", false)];
    let fetched = models.prepare(&model, &sources, &|_| {}).await.unwrap();
    assert!(!fetched.cached);
    assert_eq!(models.refused().into_keys().collect::<Vec<_>>(), ["liar"]);
    // What was checked is kept: no source is needed any more, and nothing is prepared anew.
    let again = ModelStore::new(store).prepare(&model, &[], &|_| {}).await.unwrap();
    assert!(again.cached);
    assert_eq!(again.model.digest(), model);
}
