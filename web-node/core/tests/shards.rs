//! Shards served by nodes over real streams on loopback: any cut gives the text of one machine, a node
//! that is killed is replaced, a liar is noticed, and a node fetches the pieces of its shard alone.
#![cfg(not(target_family = "wasm"))]
#![allow(clippy::unwrap_used)] // a failed set-up is a failed test

#[path = "support/shards.rs"]
mod support;

use bytes::Bytes;
use nesa_crypto::{SecretKey, seal::Role};
use nesa_light::{
    models::{ModelStore, NetworkSource, PieceSource},
    sealed::{SealedError, SealedEvent, SealedListener},
};
use nesa_model::decoder::toy::ToyDecoder;
use nesa_node::{Cores, Fault, Larder, Limits, chunks, shard::Shelf};
use nesa_platform::{
    BoxFuture,
    net::{NetConfig, Network},
    storage::Store,
};
use nesa_primitives::Hash;
use nesa_sealed::{
    client::{Link, RelayError},
    message::Refusal,
};
use std::{
    num::NonZeroUsize,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};
use support::{World, link, listening};

fn small(cuts: &[u16], replicas: u8) -> World {
    let toy = ToyDecoder { layers: 4, seed: 3, ..ToyDecoder::default() };
    World::new(&toy, cuts, replicas)
}

fn quiet() -> Arc<dyn SealedListener> {
    Arc::new(|_| {})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_two_and_four_shards_write_the_same_text_over_streams() {
    for cuts in [&[0, 4][..], &[0, 2, 4], &[0, 1, 2, 3, 4]] {
        let mut world = small(cuts, 2);
        world.fill(2, &[]).await;
        let expected = world.alone();
        let shown = Arc::new(Mutex::new((Vec::new(), 0)));
        let heard = shown.clone();
        let listener = move |event| match event {
            SealedEvent::Token(token) => heard.lock().unwrap().0.push(token),
            SealedEvent::Agreed(tokens) => heard.lock().unwrap().1 = tokens,
            SealedEvent::Replaced { .. } => panic!("nobody is replaced"),
            _ => {}
        };
        let (done, timings) = world.ask(Arc::new(listener)).await.unwrap();
        assert_eq!(done.tokens, expected);
        assert_eq!(*shown.lock().unwrap(), (expected.clone(), expected.len()));
        assert!(timings.first_token_ms <= timings.total_ms && timings.bytes_up > 0);
        // Every node settles what it told the client.
        for served in &done.served {
            let commitment = served.commitment.unwrap();
            let role = Role { shard: served.link.shard, seat: served.link.seat };
            let outcome = wait_for(|| {
                let settled = world.settled.lock().unwrap();
                settled.iter().find(|(r, _)| *r == role).and_then(|(_, o)| o.clone())
            })
            .await;
            assert_eq!(outcome.blinded_root, commitment.blinded_root);
            assert_eq!(outcome.voucher.unwrap().total, served.paid);
        }
    }
}

async fn wait_for<T>(look: impl Fn() -> Option<T>) -> T {
    for _ in 0..500 {
        if let Some(found) = look() {
            return found;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("it never comes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_node_is_replaced_and_the_text_goes_on() {
    for shard in 0..2 {
        let mut world = small(&[0, 2, 4], 2);
        world.fill(3, &[]).await;
        let expected = world.alone();
        let victim = world.nodes[&link(shard, 0)].network.clone();
        let killed = Arc::new(AtomicBool::new(false));
        let (tokens, gone) = (Mutex::new(0), Arc::new(Mutex::new(Vec::new())));
        let (once, noted) = (killed.clone(), gone.clone());
        let runtime = tokio::runtime::Handle::current();
        let listener = move |event| match event {
            SealedEvent::Token(_) => {
                let mut tokens = tokens.lock().unwrap();
                *tokens += 1;
                if *tokens == 8 && !once.swap(true, Ordering::SeqCst) {
                    let victim = victim.clone();
                    runtime.spawn(async move { victim.shutdown().await });
                }
            }
            SealedEvent::Replaced { link, .. } => noted.lock().unwrap().push(link),
            _ => {}
        };
        let (done, timings) = world.ask(Arc::new(listener)).await.unwrap();
        assert!(killed.load(Ordering::SeqCst));
        assert_eq!(done.tokens, expected, "shard {shard}");
        assert_eq!(done.agreed, expected.len());
        // It may have answered its last step before the kill reached it; else it was replaced.
        if let [lost] = gone.lock().unwrap()[..] {
            assert_eq!(lost, link(shard, 0));
            assert_eq!(timings.recovered_ms.len(), 1);
            assert!(done.served.iter().any(|served| served.link == link(shard, 2)));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_die_in_mid_step_are_replaced_until_none_is_left() {
    let mut world = small(&[0, 2, 4], 2);
    let die = |after| Fault::DieMidQuery { after };
    world.fill(3, &[(link(0, 0), die(9)), (link(1, 1), die(3))]).await;
    let (done, _) = world.ask(quiet()).await.unwrap();
    assert_eq!(done.tokens, world.alone());
    let nodes: Vec<Link> = done.served.iter().map(|served| served.link).collect();
    assert_eq!(nodes, [link(0, 1), link(0, 2), link(1, 0), link(1, 2)]);

    let mut world = small(&[0, 2, 4], 2);
    world.fill(2, &[(link(1, 0), die(4))]).await;
    let failed = world.ask(quiet()).await.unwrap_err();
    assert!(matches!(failed, SealedError::Relay(RelayError::NoSpare { shard: 1, .. })), "{failed}");
}

/// With consent to disclosure a dispute makes a node compute its sessions again within a round. One that could not
/// leaves the session to another before it owes that, and commits to what it served.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_could_not_be_computed_again_in_time_is_left_to_another() {
    let mut world = small(&[0, 2, 4], 2);
    (world.disclose, world.slow) = (true, Some((link(1, 0), 6)));
    world.fill(3, &[]).await;
    let gone = Arc::new(Mutex::new(Vec::new()));
    let noted = gone.clone();
    let listener = move |event| {
        if let SealedEvent::Replaced { link, reason, .. } = event {
            noted.lock().unwrap().push((link, reason));
        }
    };
    let (done, _) = world.ask(Arc::new(listener)).await.unwrap();
    assert_eq!(done.tokens, world.alone());
    let gone = gone.lock().unwrap().clone();
    assert!(matches!(&gone[..], [(lost, _)] if *lost == link(1, 0)), "{gone:?}");
    assert!(done.served.iter().any(|served| served.link == link(1, 2)));
    let part = wait_for(|| {
        let settled = world.settled.lock().unwrap();
        let slow = settled.iter().find(|(role, _)| (role.shard, role.seat) == (1, 0));
        slow.and_then(|(_, outcome)| outcome.clone())
    })
    .await;
    let whole = done.tokens.len() + world.request().prompt.len() - 1;
    assert!(part.served_tokens > 0 && (part.served_tokens as usize) < whole, "{part:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lying_replica_is_noticed_and_the_text_is_not_accepted() {
    for liar in [link(0, 1), link(1, 0)] {
        let mut world = small(&[0, 2, 4], 2);
        world.fill(2, &[(liar, Fault::FlipOneBit { product: 15 })]).await;
        let expected = world.alone();
        let agreed = Arc::new(Mutex::new(0));
        let heard = agreed.clone();
        let listener = move |event| {
            if let SealedEvent::Agreed(tokens) = event {
                *heard.lock().unwrap() = tokens;
            }
        };
        let failed = world.ask(Arc::new(listener)).await.unwrap_err();
        let SealedError::Relay(RelayError::Disputed(dispute)) = failed else { panic!("{failed}") };
        // A prompt of seven tokens in two steps: this is step 10, unless it lagged and took several
        // together.
        assert_eq!(dispute.shard, liar.shard);
        assert!((2..=10).contains(&dispute.step), "step {}", dispute.step);
        assert!(*agreed.lock().unwrap() < expected.len());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_fetches_the_pieces_of_its_shard_alone_from_several_peers() {
    // Wide enough for every layer to have pieces of its own.
    let toy = ToyDecoder { d_model: 256, d_ff: 1024, layers: 4, ..ToyDecoder::default() };
    let mut world = World::new(&toy, &[0, 1, 4], 1);
    let digest = world.artifact.digest();
    // Two peers with the weights, and one that lies about every piece.
    let mut guards = Vec::new();
    let mut networks = Vec::new();
    let mut addresses = Vec::new();
    for seed in [201, 202] {
        let network = listening(&SecretKey::from_seed(&[seed; 32])).await;
        guards.push(chunks::serve(&network, vec![world.artifact.clone()], 8).unwrap());
        addresses.push(network.listen_addresses().remove(0));
        networks.push(network);
    }
    let mut stores = Vec::new();
    for shard in 0..2 {
        let store = Store::memory();
        let network = Network::start(NetConfig::client([150 + shard; 32])).await.unwrap();
        let mut sources: Vec<Arc<dyn PieceSource>> = vec![Arc::new(Liar)];
        for address in &addresses {
            sources.push(Arc::new(NetworkSource::new(network.clone(), address)));
        }
        let headers = vec![world.artifact.header().clone()];
        let larder = Arc::new(Larder::new(headers, store.clone(), sources, u64::MAX));
        let shelf = Shelf::new(Vec::new(), Some(&larder));
        world.add(link(shard, 0), shelf, None, Limits::default()).await;
        networks.push(network);
        stores.push(store);
    }
    let (done, _) = world.ask(quiet()).await.unwrap();
    assert_eq!(done.tokens, world.alone());
    // The store of the first node has its shard, and not what belongs to the second alone.
    let offline: [Arc<dyn PieceSource>; 0] = [];
    for (store, (mine, other)) in stores.into_iter().zip([(0..1, 1..4), (1..4, 0..1)]) {
        let models = ModelStore::new(store);
        assert!(models.shard(&digest, mine, &offline, &|_| {}).await.is_ok());
        assert!(models.shard(&digest, other, &offline, &|_| {}).await.is_err());
    }
}

/// Replicas with one thread and with two, in one query: the same bytes and the same traces.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn threads_change_neither_the_text_nor_the_trace() {
    // Wide enough that products are handed out, of single rows too.
    let toy = ToyDecoder { d_model: 512, d_ff: 1030, layers: 2, seed: 3, ..ToyDecoder::default() };
    let mut world = World::new(&toy, &[0, 1, 2], 2);
    world.cores = Some((Cores::new(NonZeroUsize::new(2).unwrap()).unwrap(), vec![1]));
    world.fill(2, &[]).await;
    let (done, _) = world.ask(quiet()).await.unwrap();
    assert_eq!((&done.tokens, done.agreed), (&world.alone(), done.tokens.len()));
    for shard in 0..2 {
        let roots = wait_for(|| {
            let settled = world.settled.lock().unwrap();
            let of = settled.iter().filter(|(role, _)| role.shard == shard);
            let roots: Vec<Hash> =
                of.filter_map(|(_, outcome)| Some(outcome.as_ref()?.root)).collect();
            (roots.len() == 2).then_some(roots)
        })
        .await;
        assert_eq!(roots[0], roots[1], "shard {shard}");
    }
}

/// A source of wrong pieces.
struct Liar;

impl PieceSource for Liar {
    fn name(&self) -> String {
        "liar".to_owned()
    }

    fn piece(&self, _: Hash, _: u32) -> BoxFuture<'_, Result<Bytes, String>> {
        Box::pin(async { Ok(Bytes::from_static(b"wrong")) })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_memory_for_the_cache_or_of_another_query_refuses() {
    let mut world = small(&[0, 4], 1);
    let whole = vec![world.artifact.clone()];
    let shelf = Shelf::new(whole, None);
    let limits = Limits { cache_bytes: 1000, ..Limits::default() };
    world.add(link(0, 0), shelf, None, limits).await;
    let failed = world.ask(quiet()).await.unwrap_err();
    let SealedError::Relay(RelayError::NoSpare { reason, .. }) = failed else { panic!("{failed}") };
    assert_eq!(reason.to_string(), Refusal::Unavailable.to_string());
    assert!(world.settled.lock().unwrap().is_empty(), "nothing was served");

    let mut world = small(&[0, 4], 1);
    let shelf = Shelf::new(Vec::new(), None);
    world.add(link(0, 0), shelf, None, Limits::default()).await;
    let failed = world.ask(quiet()).await.unwrap_err();
    let SealedError::Relay(RelayError::NoSpare { reason, .. }) = failed else { panic!("{failed}") };
    assert_eq!(reason.to_string(), Refusal::NotDrawn.to_string());
}
