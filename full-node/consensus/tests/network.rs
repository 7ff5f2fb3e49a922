//! Real validators on loopback: files on disk, authenticated connections, separate processes.

#![allow(clippy::unwrap_used)] // a failed set-up is a failed test

use commonware_codec::Encode as _;
use futures::{StreamExt as _, executor::block_on};
use nesa_chain::{
    Action, Genesis, Params, SignedTx, Tx,
    action::Transfer,
    genesis::GenesisAccount,
    header::to_digest,
    keys,
    record::{Account, Coin},
};
use nesa_consensus::{
    QueryError, StateAnswer, SubmitError, Validator, ValidatorConfig, ValidatorHandle, dealer,
    mempool,
};
use nesa_crypto::SecretKey;
use nesa_primitives::{Address, Amount, ChainId, Denom, decode_exact};
use nesa_verify::{Verifier, state, transaction};
use rand::{SeedableRng as _, rngs::StdRng};
use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// Far beyond what any step takes; reaching it means that the step never happens.
const PATIENCE: Duration = Duration::from_secs(90);

fn rich() -> SecretKey {
    SecretKey::from_seed(&[7; 32])
}

fn network(seed: u64) -> (Genesis, Vec<dealer::ValidatorKeys>) {
    let dealt = dealer::deal(4, StdRng::seed_from_u64(seed)).unwrap();
    let genesis = Genesis {
        chain_id: ChainId::new("test-network").unwrap(),
        group_key: dealt.group_key,
        validators: dealt.validators.iter().map(|keys| keys.address()).collect(),
        params: Params::local(None),
        accounts: vec![GenesisAccount {
            address: rich().public(),
            balances: vec![Coin { denom: Denom::NES, amount: Amount(1_000_000_000) }],
        }],
        models: Vec::new(),
        nodes: Vec::new(),
        stablecoins: Vec::new(),
        timestamp_ms: 1_000,
    };
    (genesis, dealt.validators)
}

fn free_ports() -> Vec<u16> {
    let sockets: Vec<_> =
        (0..4).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()).collect();
    sockets.iter().map(|socket| socket.local_addr().unwrap().port()).collect()
}

fn config(seed: u64, index: usize, ports: &[u16], directory: &Path) -> ValidatorConfig {
    let (genesis, keys) = network(seed);
    let socket = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    ValidatorConfig {
        peers: keys.iter().zip(ports).map(|(k, port)| (k.address(), socket(*port))).collect(),
        keys: keys[index].clone(),
        genesis,
        directory: directory.join(index.to_string()),
        listen: socket(ports[index]),
        mempool: mempool::Limits::default(),
    }
}

fn transfer(chain: nesa_primitives::Hash, nonce: u64, to: Address, amount: u64) -> SignedTx {
    let key = rich();
    let action = Action::Transfer(Transfer { to, denom: Denom::NES, amount: Amount(amount) });
    Tx { chain, sender: key.public(), nonce, fee: Amount(10), action }.sign(&key)
}

fn wait<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = check() {
            return value;
        }
        assert!(start.elapsed() < PATIENCE, "{what} never happens");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Proofs prove what they were made for and nothing else.
fn attack_proofs(answer: &StateAnswer) {
    let root = answer.header.state_root();
    let [(present, Some(value), inclusion), (absent, None, exclusion)] = &answer.entries[..] else {
        panic!("one present and one absent key");
    };
    assert!(state::verify_absent(root, present, exclusion).is_invalid(), "a present key");
    assert!(state::verify_absent(root, absent, inclusion).is_invalid(), "another kind of proof");
    assert!(state::verify_value(root, absent, value, inclusion).is_invalid(), "another key");
    assert!(state::verify_value(root, present, &value[1..], inclusion).is_invalid());
    assert!(state::verify_value(root, present, value, exclusion).is_invalid());
    let other = to_digest(&nesa_primitives::Hash([1; 32]));
    assert!(state::verify_value(&other, present, value, inclusion).is_invalid(), "another root");
    for (proof, value) in [(inclusion, Some(value)), (exclusion, None)] {
        let key = if value.is_some() { present } else { absent };
        let verify = |proof: &[u8]| state::verify(root, key, value.map(|v| &v[..]), proof);
        for bit in 0..proof.len() * 8 {
            let mut flipped = proof.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(!verify(&flipped).is_valid(), "bit {bit} of a proof");
        }
        for length in 0..proof.len() {
            assert!(!verify(&proof[..length]).is_valid(), "a proof cut to {length} bytes");
        }
        assert!(!verify(&[proof.as_ref(), &[0]].concat()).is_valid(), "a longer proof");
    }
}

fn start_all(seed: u64, ports: &[u16], directory: &Path) -> Vec<ValidatorHandle> {
    (0..4)
        .map(|index| block_on(Validator::start(config(seed, index, ports, directory))).unwrap())
        .collect()
}

#[test]
fn a_transfer_is_proved_by_every_validator_and_survives_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let ports = free_ports();
    let validators = start_all(1, &ports, directory.path());
    let verifier = Verifier::new(&network(1).0.trust_root()).unwrap();
    let chain = validators[0].chain();
    let to = Address([9; 32]);

    let tx = transfer(chain, 0, to, 5_000);
    let id = wait("the first block", || match block_on(validators[2].submit(tx.clone())) {
        Err(SubmitError::Query(QueryError::NotYet)) => None,
        answer => Some(answer.unwrap()),
    });
    assert!(block_on(validators[2].submit(tx.clone())).is_err(), "a duplicate is refused");
    let wrong = Tx { chain: nesa_primitives::Hash([1; 32]), ..tx.tx.clone() }.sign(&rich());
    assert!(block_on(validators[2].submit(wrong)).is_err(), "another chain's is refused");
    let poor = transfer(chain, 1, to, u64::MAX);
    assert!(block_on(validators[2].submit(poor)).is_err(), "more than the account holds");

    let mut rng = StdRng::seed_from_u64(0);
    for validator in &validators {
        let place = wait("inclusion", || block_on(validator.tx(id)).unwrap());
        assert!(transaction::verify_inclusion(&place.header, &tx, &place.proof).is_valid());
        let answer =
            block_on(validator.state(vec![keys::account(&to), keys::account(&Address([8; 32]))]))
                .unwrap();
        assert!(verifier.verify_header(&mut rng, &answer.header, &answer.finalization).is_valid());
        for (key, value, proof) in &answer.entries {
            let root = answer.header.state_root();
            assert!(state::verify(root, key, value.as_deref(), proof).is_valid());
        }
        let account: Account = decode_exact(answer.entries[0].1.as_ref().unwrap(), &()).unwrap();
        assert_eq!(account.balance(Denom::NES), Amount(5_000));
        assert!(answer.entries[1].1.is_none());
        attack_proofs(&answer);
    }

    // Headers link, verify in one batch, and their seeds are served.
    let headers = wait("five headers", || {
        let headers = block_on(validators[1].headers(1, 64)).unwrap();
        (headers.len() > 4).then_some(headers)
    });
    let items: Vec<_> = headers.iter().map(|(h, f)| ((**h).clone(), f.clone())).collect();
    let verdicts = verifier.verify_batch(&mut rng, &items);
    for (verdict, (header, finalization)) in verdicts.iter().zip(&items) {
        assert!(verdict.is_valid() || finalization.is_none(), "{verdict}");
        for (view, seed) in header.seeds() {
            assert_eq!(block_on(validators[3].seed(view)).unwrap().as_ref(), Some(seed));
        }
    }
    let block = block_on(validators[0].block(items[0].0.height())).unwrap().unwrap();
    assert_eq!(block.block.header.encode(), items[0].0.encode());

    // The certificates carry unpredictable, distinct seeds; a restart goes on where it was.
    let before = validators.iter().map(|v| v.head().unwrap().header.height()).max().unwrap();
    for validator in &validators {
        block_on(validator.stop()).unwrap();
        assert!(block_on(validator.headers(0, 1)).is_err(), "a stopped validator says so");
    }
    let validators = start_all(1, &ports, directory.path());
    let mut heads = validators[0].subscribe();
    let head = block_on(heads.next()).unwrap();
    wait("blocks after a restart", || {
        (validators[0].head().ok()?.header.height() > before).then_some(())
    });
    assert!(head.header.height() <= before + 64);
    let place = wait("the old transaction", || block_on(validators[1].tx(id)).unwrap());
    assert!(transaction::verify_inclusion(&place.header, &tx, &place.proof).is_valid());
    let second = block_on(validators[1].submit(transfer(chain, 1, to, 1))).unwrap();
    wait("a second transfer", || block_on(validators[3].tx(second)).unwrap());
}

/// Time from a leader's timestamp to the finalized, executed block at every validator.
///
/// `cargo xtask bench finality`
#[test]
#[ignore = "prints figures and asserts nothing about them"]
fn finality() {
    let directory = tempfile::tempdir().unwrap();
    let ports = free_ports();
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    let genesis_ms = now() as u64;
    let validators: Vec<_> = (0..4)
        .map(|index| {
            let mut config = config(3, index, &ports, directory.path());
            // Block time takes bounded steps from genesis on, so that must be today.
            config.genesis.timestamp_ms = genesis_ms;
            block_on(Validator::start(config)).unwrap()
        })
        .collect();
    let threads: Vec<_> = validators
        .iter()
        .map(|validator| {
            let heads = validator.subscribe();
            std::thread::spawn(move || {
                let delays = heads
                    .take(200)
                    .map(|head| now().saturating_sub(u128::from(head.header.timestamp_ms())));
                block_on(delays.collect::<Vec<_>>())
            })
        })
        .collect();
    // An idle chain waits before it makes the next block, so it is kept busy.
    let mut nonce = 0;
    while !threads.iter().all(|thread| thread.is_finished()) {
        let tx = transfer(validators[0].chain(), nonce, Address([9; 32]), 1);
        nonce += u64::from(block_on(validators[0].submit(tx)).is_ok());
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut delays: Vec<u128> =
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    delays.sort_unstable();
    let at = |share: usize| delays[(delays.len() - 1) * share / 100];
    println!(
        "FINALITY {{\"validators\":4,\"blocks\":{},\"p50_ms\":{},\"p90_ms\":{},\"p99_ms\":{}}}",
        delays.len() / 4,
        at(50),
        at(90),
        at(99)
    );
}

/// Runs one validator until it is killed; see [`kill_nine_of_every_process`].
#[test]
#[ignore = "a child process of another test"]
fn child() {
    let Ok(directory) = std::env::var("NESA_TEST_VALIDATOR") else { return };
    let directory = PathBuf::from(directory);
    let index: usize = std::env::var("NESA_TEST_INDEX").unwrap().parse().unwrap();
    let ports: Vec<u16> = std::fs::read_to_string(directory.join("ports"))
        .unwrap()
        .split_whitespace()
        .map(|port| port.parse().unwrap())
        .collect();
    let validator = block_on(Validator::start(config(2, index, &ports, &directory))).unwrap();
    // The seeds that were known before the kill, as `view seed` lines.
    let report = directory.join(format!("report-{index}"));
    loop {
        let head = validator.head().unwrap();
        let mut lines = format!("{}\n", head.header.height());
        for view in 1..head.header.view() {
            if let Some(seed) = block_on(validator.seed(view)).unwrap() {
                lines += &format!(
                    "{view} {}\n",
                    seed.0.iter().map(|b| format!("{b:02x}")).collect::<String>()
                );
            }
        }
        let draft = directory.join(format!("draft-{index}"));
        std::fs::write(&draft, lines).unwrap();
        std::fs::rename(draft, &report).unwrap();
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn spawn(directory: &Path, index: usize) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--ignored", "--nocapture"])
        .env("NESA_TEST_VALIDATOR", directory)
        .env("NESA_TEST_INDEX", index.to_string())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// Height and `view seed` lines last reported by a child.
fn report(directory: &Path, index: usize) -> Option<(u64, Vec<String>)> {
    let text = std::fs::read_to_string(directory.join(format!("report-{index}"))).ok()?;
    let mut lines = text.lines();
    let height = lines.next()?.parse().ok()?;
    Some((height, lines.map(str::to_owned).collect()))
}

#[test]
fn kill_nine_of_every_process() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let ports: Vec<String> = free_ports().iter().map(u16::to_string).collect();
    std::fs::write(path.join("ports"), ports.join(" ")).unwrap();
    let mut children: Vec<Child> = (0..4).map(|index| spawn(path, index)).collect();

    // One validator is away: the others go on, skipping its views.
    wait("height 2", || (report(path, 0)?.0 >= 2).then_some(()));
    children[3].kill().unwrap();
    children[3].wait().unwrap();
    let at = report(path, 0).unwrap().0;
    wait("blocks without the fourth", || (report(path, 0)?.0 >= at + 4).then_some(()));

    // All are killed; nothing that was final, and no seed, is lost.
    for child in &mut children[..3] {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let before: Vec<_> = (0..3).map(|index| report(path, index).unwrap()).collect();
    for index in 0..4 {
        let _ = std::fs::remove_file(path.join(format!("report-{index}")));
    }
    let mut children: Vec<Child> = (0..4).map(|index| spawn(path, index)).collect();
    let highest = before.iter().map(|(height, _)| *height).max().unwrap();
    for index in 0..4 {
        wait("all catch up", || (report(path, index)?.0 > highest + 1).then_some(()));
    }
    for (index, (_, seeds)) in before.iter().enumerate() {
        let after = wait("a report", || report(path, index)).1;
        for seed in seeds {
            assert!(after.contains(seed), "validator {index} forgot a seed");
        }
    }
    for child in &mut children {
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
