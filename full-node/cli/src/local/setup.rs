//! Makes a new local network: keys, genesis, ports.
//!
//! One party makes every key here, so it could forge the chain; the description says so. The order
//! of writing makes the making atomic: `network.json` comes last, and whatever an interrupted
//! attempt left is made again.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use nesa_chain::{
    action::{Lane, ModelName, NodeAddress},
    genesis::{Genesis, GenesisAccount, GenesisNode, Stablecoin},
    params::Params,
    record::{Coin, ModelRecord},
    trust::{GROUP_KEY_BYTES, TrustRoot},
};
use nesa_consensus::dealer;
use nesa_crypto::sign::SecretKey;
use nesa_model::{Artifact, manifest::Manifest};
use nesa_platform::{random, time};
use nesa_primitives::{Address, Amount, ChainId, Denom, Hash, Text};

use super::{
    layout::{ModelEntry, Network, NodeEntry, ValidatorEntry, websocket_address},
    ports,
    scenario::Scenario,
};
use crate::{
    failure::{Code, Failure},
    files, keyfile,
    node::{float, model},
};

/// Validators of a local network: one may fail.
const VALIDATORS: u32 = 4;
/// Compute nodes, each of an operator of its own: three candidates for side A, two for side B.
const NODES: usize = 5;
/// Port of the playground unless asked otherwise.
const DEFAULT_HTTP_PORT: u16 = 7070;
/// What the faucet starts with, in NES.
const FAUCET_NES: u64 = 100_000_000;
/// What each operator starts with besides its bonds, in NES.
const OPERATOR_NES: u64 = 10_000;
/// Bond of an ordinary node, in NES.
const BOND_NES: u64 = 1_000;
/// Bond of a node that must be drawn, in NES: a million times the others.
const CERTAIN_BOND_NES: u64 = 1_000_000_000;
/// The stablecoin of a local network.
const LOCAL_STABLECOIN: Denom = Denom(1);
/// Price of one padded token on one side, in unes.
const PRICE_PER_TOKEN: u64 = 20;
/// Price of one run of a float model on one replica, in unes.
const PRICE_PER_RUN: u64 = 2_000;

/// What was asked for.
pub(crate) struct Options {
    /// What the network rehearses.
    pub(crate) scenario: Scenario,
    /// The first validator's HTTP port; `Some(0)` picks a free one.
    pub(crate) http_port: Option<u16>,
    /// What HTTP and libp2p listen on.
    pub(crate) listen: IpAddr,
    /// The model files; those found when empty.
    pub(crate) models: Vec<PathBuf>,
}

/// File names inside a process's folder.
pub(crate) mod names {
    /// A validator's identity and share.
    pub(crate) const VALIDATOR: &str = "validator.key";
    /// A validator's libp2p identity.
    pub(crate) const P2P: &str = "p2p.key";
    /// The faucet's account, in the folder of the first honest validator.
    pub(crate) const FAUCET: &str = "faucet.key";
    /// The account of the operator of a compute node.
    pub(crate) const OPERATOR: &str = "operator.key";
    /// A compute node's key, which is its libp2p identity.
    pub(crate) const NODE: &str = "node.key";
    /// Where a process keeps what it learns.
    pub(crate) const DATA: &str = "data";
}

/// Makes the network in `dir`.
pub(crate) fn create(dir: &Path, options: &Options) -> Result<Network> {
    discard_unfinished(dir)?;
    let files = if options.models.is_empty() { model::find_all()? } else { options.models.clone() };
    let mut models = Vec::with_capacity(files.len());
    let mut offered: Vec<Offered> = Vec::with_capacity(files.len());
    for file in &files {
        let offer = Offered::open(file)?;
        if offered.iter().any(|other| other.digest == offer.digest) {
            continue;
        }
        let file =
            file.canonicalize().with_context(|| format!("cannot find {}", file.display()))?;
        models.push(ModelEntry { digest: offer.digest, name: offer.name.clone(), file });
        offered.push(offer);
    }

    let mut rng = random::rng();
    let dealt = dealer::deal(VALIDATORS, &mut rng).context("cannot deal validator keys")?;
    let faucet = SecretKey::generate(&mut rng);
    let mut pair = || (SecretKey::generate(&mut rng), SecretKey::generate(&mut rng));
    let node_keys: Vec<(SecretKey, SecretKey)> = (0..NODES).map(|_| pair()).collect();
    let p2p_keys: Vec<SecretKey> =
        dealt.validators.iter().map(|_| SecretKey::generate(&mut rng)).collect();

    let mut free = ports::pick(VALIDATORS as usize * 3 + NODES)?.into_iter();
    let mut port = || free.next().context("ran out of ports");
    let mut validators = Vec::new();
    for (index, (keys, p2p)) in dealt.validators.iter().zip(&p2p_keys).enumerate() {
        let name = format!("v{index}");
        let folder = dir.join(&name);
        files::private_dir(&folder)?;
        files::write_secret(&folder.join(names::VALIDATOR), &keys.to_bytes())?;
        keyfile::store(&folder.join(names::P2P), p2p)?;
        let chosen = port()?;
        let http_port = match (index, options.http_port) {
            (0, None) => DEFAULT_HTTP_PORT,
            (0, Some(asked)) if asked != 0 => asked,
            _ => chosen,
        };
        validators.push(ValidatorEntry {
            name,
            address: validator_address(keys),
            peer: p2p.public(),
            consensus_port: port()?,
            http_port,
            p2p_port: port()?,
        });
    }
    // Clients ask only validators they have not caught lying.
    let honest = (0..validators.len()).find(|index| options.scenario.forgery(*index).is_none());
    let keeper = format!("v{}", honest.unwrap_or_default());
    keyfile::store(&dir.join(keeper).join(names::FAUCET), &faucet)?;

    let mut nodes = Vec::new();
    for (index, (operator, key)) in node_keys.iter().enumerate() {
        let name = format!("c{index}");
        let folder = dir.join(&name);
        files::private_dir(&folder)?;
        keyfile::store(&folder.join(names::OPERATOR), operator)?;
        keyfile::store(&folder.join(names::NODE), key)?;
        nodes.push(NodeEntry {
            name,
            operator: operator.public(),
            node: key.public(),
            p2p_port: port()?,
        });
    }

    let tag: [u8; 4] = random::bytes();
    let chain_id = ChainId::new(&format!("nesa-local-{}", hex::encode(tag)))?;
    let plan = Plan {
        scenario: options.scenario,
        listen: options.listen,
        offered: &offered,
        chain_id,
        faucet: faucet.public(),
    };
    let genesis = plan.genesis(dealt.group_key, &validators, &nodes)?;
    let text = serde_json::to_vec_pretty(&genesis)?;
    files::write(&genesis_path(dir), &text)?;

    let network = Network {
        version: Network::version(),
        chain_id: genesis.chain_id.to_string(),
        trust_root: genesis.trust_root().to_hex(),
        dealer: "one dealer on this machine made the group key and could forge this chain".into(),
        scenario: options.scenario,
        listen: options.listen,
        models,
        validators,
        nodes,
    };
    network.store(dir)?;
    Ok(network)
}

/// Where the genesis lies.
pub(crate) fn genesis_path(dir: &Path) -> PathBuf {
    dir.join("genesis.json")
}

/// Reads the genesis and checks that it is the one the trust root names.
pub(crate) fn load_genesis(dir: &Path, network: &Network) -> Result<(Genesis, TrustRoot)> {
    let path = genesis_path(dir);
    let text = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let genesis: Genesis = serde_json::from_slice(&text)
        .with_context(|| format!("{} is not a genesis", path.display()))?;
    let trust = genesis.trust_root();
    anyhow::ensure!(
        trust.to_hex() == network.trust_root,
        "{} is not this network's genesis: got trust root {trust}, expected {}",
        path.display(),
        network.trust_root
    );
    Ok((genesis, trust))
}

/// Where each model's file is now: the one asked for, the recorded one, or one found again. Its
/// digest must be the registered one.
pub(crate) fn resolve_models(entries: &mut [ModelEntry], asked: &[PathBuf]) -> Result<()> {
    let mut known = Vec::new();
    for file in asked {
        known.push((Offered::open(file)?.digest, file.canonicalize()?));
    }
    if let Some((digest, file)) = known.iter().find(|(d, _)| entries.iter().all(|e| e.digest != *d))
    {
        return Err(Failure::new(
            Code::Usage,
            format!("{} has digest {digest}, which this network does not serve", file.display()),
            "models are fixed at genesis: use a new --dir for this one",
        )
        .into());
    }
    for entry in entries {
        let is_it = |file: &PathBuf| Offered::open(file).is_ok_and(|o| o.digest == entry.digest);
        if let Some((_, file)) = known.iter().find(|(digest, _)| *digest == entry.digest) {
            entry.file.clone_from(file);
        } else if !is_it(&entry.file) {
            let found = model::find_all()?.into_iter().find(is_it);
            let file = found.ok_or_else(|| {
                Failure::new(
                    Code::Usage,
                    format!("no file of the model {} with digest {}", entry.name, entry.digest),
                    "name it with --model, or use a new --dir",
                )
            })?;
            entry.file = file.canonicalize()?;
        }
    }
    Ok(())
}

/// Removes what an interrupted attempt left. Only called where there is no `network.json`.
fn discard_unfinished(dir: &Path) -> Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let ours = name.len() >= 2
            && name.starts_with(['v', 'c'])
            && name[1..].bytes().all(|b| b.is_ascii_digit());
        if ours && path.is_dir() {
            std::fs::remove_dir_all(&path)
                .with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    Ok(())
}

fn validator_address(keys: &dealer::ValidatorKeys) -> Address {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(keys.public().as_ref());
    Address(bytes)
}

fn model_name(artifact: &Artifact) -> String {
    let name = artifact.header().manifest().name().to_owned();
    name.chars().take(32).collect()
}

/// A model's file, as the chain knows it.
struct Offered {
    digest: Hash,
    name: String,
    bytes: u64,
    lanes: u32,
}

impl Offered {
    /// Reads a compiled model, or an ONNX file for the float lane.
    fn open(file: &Path) -> Result<Self> {
        if float::is_float(file) {
            let (bytes, digest) = float::open(file)?;
            let name = file.file_stem().unwrap_or_default().to_string_lossy();
            let (name, lanes) = (name.chars().take(32).collect(), Lane::Float.bit());
            return Ok(Self { digest, name, bytes: u64::try_from(bytes.len())?, lanes });
        }
        let artifact = model::open(file)?;
        Ok(Self {
            digest: artifact.digest(),
            name: model_name(&artifact),
            bytes: u64::try_from(artifact.file_len())?,
            lanes: lanes(&artifact),
        })
    }
}

/// What the genesis is made of.
struct Plan<'a> {
    scenario: Scenario,
    listen: IpAddr,
    offered: &'a [Offered],
    chain_id: ChainId,
    faucet: Address,
}

impl Plan<'_> {
    fn genesis(
        &self,
        group_key: [u8; GROUP_KEY_BYTES],
        validators: &[ValidatorEntry],
        nodes: &[NodeEntry],
    ) -> Result<Genesis> {
        let mut params = Params::local(Some(self.faucet));
        if self.scenario == Scenario::Volunteers {
            // A volunteer's bond of some NES outweighs all genesis bonds of one une each, so it is
            // drawn first, and soon after it came.
            params.min_bond = Amount(1);
            params.snapshot_interval = 4;
        }
        let nes = |whole: u64| Amount::nes(whole).context("an amount overflows");
        let coin = |whole| Ok::<_, anyhow::Error>(Coin { denom: Denom::NES, amount: nes(whole)? });
        let stable = Coin { denom: LOCAL_STABLECOIN, amount: nes(FAUCET_NES)? };
        let mut accounts = vec![GenesisAccount {
            address: self.faucet,
            balances: vec![coin(FAUCET_NES)?, stable],
        }];
        let mut operators: Vec<Address> = nodes.iter().map(|node| node.operator).collect();
        operators.sort_unstable();
        operators.dedup();
        for operator in operators {
            accounts
                .push(GenesisAccount { address: operator, balances: vec![coin(OPERATOR_NES)?] });
        }
        let owner = nodes.first().context("a network needs compute nodes")?.operator;
        let model = |offer: &Offered| {
            let float = offer.lanes == Lane::Float.bit();
            anyhow::Ok(ModelRecord {
                digest: offer.digest,
                owner,
                name: ModelName::new(offer.name.clone())?,
                bytes: offer.bytes,
                denom: Denom::NES,
                price_per_token: Amount(if float { PRICE_PER_RUN } else { PRICE_PER_TOKEN }),
                lanes: offer.lanes,
            })
        };
        let models: Vec<_> = self.offered.iter().map(model).collect::<Result<_>>()?;
        let digests: Vec<_> = models.iter().map(|model| model.digest).collect();
        let node = |(index, entry): (usize, &NodeEntry)| {
            let bond = match self.scenario {
                Scenario::Volunteers => Amount(1),
                scenario if scenario.favours_first_node() && index == 0 => nes(CERTAIN_BOND_NES)?,
                _ => nes(BOND_NES)?,
            };
            anyhow::Ok(GenesisNode {
                operator: entry.operator,
                node: entry.node,
                bond,
                faucet_bond: false,
                models: digests.clone(),
                addresses: vec![NodeAddress::new(&websocket_address(
                    self.listen,
                    entry.p2p_port,
                    &entry.node,
                )?)?],
            })
        };
        let genesis = Genesis {
            chain_id: self.chain_id.clone(),
            group_key,
            validators: validators.iter().map(|validator| validator.address).collect(),
            params,
            accounts,
            models,
            nodes: nodes.iter().enumerate().map(node).collect::<Result<_>>()?,
            stablecoins: vec![Stablecoin { denom: LOCAL_STABLECOIN, name: Text::new("tUSD")? }],
            timestamp_ms: time::now_ms(),
        };
        genesis.initial_state().context("the genesis breaks its own rules")?;
        Ok(genesis)
    }
}

/// The lanes of a model: shards are of decoders.
fn lanes(artifact: &Artifact) -> u32 {
    match artifact.header().manifest() {
        Manifest::Decoder(_) => Lane::Masked.bit() | Lane::Sealed.bit(),
        _ => Lane::Masked.bit(),
    }
}
