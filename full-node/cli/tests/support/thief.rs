//! A client that takes its answer and leaves before it has signed for it.

use std::sync::{Arc, Mutex};

use nesa_chain::trust::TrustRoot;
use nesa_crypto::SecretKey;
use nesa_light::{
    LightClient, NetworkPeer, QueryClient, QueryOptions,
    accounts::Accounts,
    models::{LoadProgress, NetworkSource},
    query::report::{Listener, Progress},
};
use nesa_platform::{
    net::{NetConfig, Network as Swarm},
    random,
    storage::Store,
};
use nesa_primitives::{Denom, Hash};

use super::{Network, http};

/// Asks about `text`, and drops everything at the moment the last layer of the only pass was
/// checked, when the running total would be signed. Returns the query's id.
pub(crate) fn take_and_run(network: &Network, text: &str) -> Hash {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let query = runtime.block_on(ask(network, text.to_owned()));
    runtime.shutdown_background();
    query
}

async fn ask(network: &Network, text: String) -> Hash {
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

    let paid = Arc::new(Mutex::new(None));
    let noted = paid.clone();
    let listener = Listener::new(move |progress: Progress| match progress {
        Progress::Paid { query, .. } => *noted.lock().expect("unpoisoned") = Some(query),
        Progress::Stage(stage) if stage.stage == stage.stages => panic!("gone with the answer"),
        _ => {}
    });
    let options = QueryOptions {
        listener,
        deadline: Some(std::time::Duration::from_secs(15)),
        ..QueryOptions::default()
    };
    let asked = tokio::spawn(async move {
        let _ = queries.embed(&prepared, &key, &[text], &options).await;
    });
    assert!(asked.await.is_err_and(|end| end.is_panic()), "the client left in mid-query");
    let query = paid.lock().expect("unpoisoned").take();
    query.expect("the query was paid")
}
