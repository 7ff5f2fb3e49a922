//! Clients of the library, for what the command line would never do: one that leaves before it has
//! signed, and one that is there when a node is killed.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use nesa_chain::trust::TrustRoot;
use nesa_crypto::SecretKey;
use nesa_light::{
    LightClient, NetworkPeer, QueryClient, QueryOptions,
    accounts::Accounts,
    models::{LoadProgress, NetworkSource, Prepared},
    query::report::{Listener, NodeRef, Progress},
};
use nesa_platform::{
    net::{NetConfig, Network as Swarm},
    random,
    storage::Store,
};
use nesa_primitives::{Denom, Hash};

use super::{Network, http};

/// Seconds from payment to settlement: enough on a busy machine, short for a test.
const DEADLINE: Duration = Duration::from_secs(15);

/// Asks about `text`, and drops everything at the moment the last layer of the only pass was
/// checked, when the running total would be signed. Returns the query's id.
pub(crate) fn take_and_run(network: &Network, text: &str) -> Hash {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let query = runtime.block_on(async {
        let (queries, prepared, key) = connect(network).await;
        let paid = Arc::new(Mutex::new(None));
        let noted = paid.clone();
        let listener = Listener::new(move |progress: Progress| match progress {
            Progress::Paid { query, .. } => *noted.lock().expect("unpoisoned") = Some(query),
            Progress::Stage(stage) if stage.stage == stage.stages => panic!("gone with the answer"),
            _ => {}
        });
        let options =
            QueryOptions { listener, deadline: Some(DEADLINE), ..QueryOptions::default() };
        let text = text.to_owned();
        let asked = tokio::spawn(async move {
            let _ = queries.embed(&prepared, &key, &[text], &options).await;
        });
        assert!(asked.await.is_err_and(|end| end.is_panic()), "the client left in mid-query");
        let query = paid.lock().expect("unpoisoned").take();
        query.expect("the query was paid")
    });
    runtime.shutdown_background();
    query
}

/// Asks about `texts`, which take several passes, and calls `kill` with side A's node in the middle
/// of the second pass: its first has been paid with a voucher by then. Returns the query's id and
/// that node, once the answer is there all the same.
pub(crate) fn kill_in_mid_query(
    network: &Network,
    texts: &[String],
    kill: impl Fn(&NodeRef) + Send + Sync + 'static,
) -> (Hash, NodeRef) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let outcome = runtime.block_on(async {
        let (queries, prepared, key) = connect(network).await;
        let drawn: Mutex<Vec<NodeRef>> = Mutex::default();
        let victim = Arc::new(Mutex::new(None));
        let noted = victim.clone();
        let listener = Listener::new(move |progress: Progress| match progress {
            Progress::Nodes { nodes, .. } => *drawn.lock().expect("unpoisoned") = nodes,
            Progress::Stage(stage) if stage.pass == 1 && 2 * stage.stage > stage.stages => {
                let mut victim = noted.lock().expect("unpoisoned");
                if victim.is_none() {
                    let node = drawn.lock().expect("unpoisoned")[0].clone();
                    kill(&node);
                    *victim = Some(node);
                }
            }
            _ => {}
        });
        let options = QueryOptions {
            listener,
            deadline: Some(3 * DEADLINE),
            answer_only: true,
            ..QueryOptions::default()
        };
        let outcome =
            queries.embed(&prepared, &key, texts, &options).await.expect("an answer all the same");
        assert_eq!(outcome.answer.vectors().len(), texts.len());
        let victim = victim.lock().expect("unpoisoned").take();
        (outcome.query, victim.expect("a node was killed in the second pass"))
    });
    runtime.shutdown_background();
    outcome
}

/// A client with the model made ready and a funded key.
async fn connect(network: &Network) -> (QueryClient, Prepared, SecretKey) {
    let trust: TrustRoot = network.field("trust_root").parse().expect("a trust root");
    let bootstrap = http::get(network.field("rpc"), "/v1/bootstrap").json();
    let peers: Vec<String> = serde_json::from_value(bootstrap["peers"].clone()).expect("peers");
    let model: Hash = network.field("model").parse().expect("a digest");
    let swarm = Swarm::start(NetConfig::client(random::bytes())).await.expect("a network");
    let peer = |address: &String| Arc::new(NetworkPeer::new(swarm.clone(), address.clone())) as _;
    let light = LightClient::start(trust, None, peers.iter().map(peer).collect())
        .await
        .expect("a light client");
    let source =
        |address: &String| Arc::new(NetworkSource::new(swarm.clone(), address.clone())) as _;
    let accounts = Accounts::new(light.clone());
    let store = Store::memory();
    let queries = QueryClient::new(
        light,
        swarm.clone(),
        accounts.clone(),
        store,
        peers.iter().map(source).collect(),
    );
    let prepared = queries
        .models()
        .prepare(&model, queries.sources(), &|_: LoadProgress| {})
        .await
        .expect("the model");
    let key = SecretKey::generate(&mut random::rng());
    accounts.fund(key.public(), Denom::NES).await.expect("a faucet");
    (queries, prepared, key)
}
