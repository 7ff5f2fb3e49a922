//! Models fetched over a slow line by processes that are killed in the middle of it: nothing is fetched twice, what
//! is damaged on disk is fetched again, and a compute node serves, and is paid, without a file of its model.

#![allow(clippy::unwrap_used)] // a failed set-up is a failed test

mod support;

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use nesa_model::{Artifact, ModelLimits};
use serde_json::{Value, json};
use support::{NESA, Network, http, show, wait_for};

/// Of each line, in each direction. The dictionary takes some seconds over it.
const MBIT: &str = "12";
/// Pieces after which a process is killed.
const ENOUGH: usize = 4;

/// A process that ends with its test.
struct Process(Child);

impl Process {
    fn start(network: &Network, log: &str, arguments: &[&str]) -> Self {
        let said = File::options().create(true).append(true).open(network.root.join(log)).unwrap();
        let child = Command::new(NESA)
            .args(arguments)
            .env("NESA_HOME", network.root.join("home"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(said)
            .spawn()
            .unwrap();
        Self(child)
    }

    /// Waits until it says that it serves.
    fn ready(&mut self, network: &Network, log: &str) {
        let stdout = self.0.stdout.take().unwrap();
        let first = BufReader::new(stdout).lines().next();
        let said = || fs::read_to_string(network.root.join(log)).unwrap();
        assert_eq!(first.and_then(Result::ok).as_deref(), Some("READY"), "{}", said());
    }

    /// As kill -9 would.
    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The pieces of `model`, without its header, that a store in `place` has.
fn held(place: &Path, model: &str) -> BTreeSet<PathBuf> {
    let files = fs::read_dir(place.join(format!("model-{model}"))).into_iter().flatten().flatten();
    let header = hex_of("0");
    let names = files.map(|file| file.path()).filter(|path| {
        let name = path.file_name().unwrap().to_str().unwrap();
        !name.starts_with('.') && name != header
    });
    names.collect()
}

fn hex_of(key: &str) -> String {
    key.bytes().map(|byte| format!("{byte:02x}")).collect()
}

/// Ports that are free now.
fn ports<const N: usize>() -> [u16; N] {
    let listeners = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

/// A network, the line in front of its validators, and the folder of somebody elsewhere, who knows the network by that
/// line and has no file of its model. The network's own nodes are behind a line too.
struct World {
    network: Network,
    elsewhere: PathBuf,
    model: String,
    pieces: usize,
    node: String,
    /// Addresses of the validators, through the line.
    peers: Vec<String>,
    _line: Process,
}

impl World {
    fn new(root: &Path) -> Self {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/dictionary.nesa");
        let artifact = Artifact::open(fs::read(&file).unwrap(), &ModelLimits::default()).unwrap();
        let pieces = artifact.header().piece_count() - 1;
        assert!(pieces > 4 * ENOUGH, "{pieces}");
        let file = file.display().to_string();
        // Frequent snapshots, and bonds so small that a newcomer's counts.
        let up = ["--port", "0", "--model", &file, "--scenario", "volunteers"];
        let network = Network::start(root, &[&up[..], &["--link-mbit", MBIT]].concat());
        let mut described: Value =
            serde_json::from_slice(&fs::read(network.dir().join("network.json")).unwrap()).unwrap();
        let doors: [u16; 5] = ports();
        let mut line = vec!["node".to_owned(), "link".to_owned()];
        line.extend(["--mbit".to_owned(), MBIT.to_owned()]);
        for (validator, door) in
            described["validators"].as_array_mut().unwrap().iter_mut().zip(doors)
        {
            let to = validator["p2p_port"].as_u64().unwrap();
            line.extend(["--port".to_owned(), format!("127.0.0.1:{door}=127.0.0.1:{to}")]);
            validator["p2p_port"] = json!(door);
        }
        let line: Vec<&str> = line.iter().map(String::as_str).collect();
        let line = Process::start(&network, "line.log", &line);
        let elsewhere = network.root.join("elsewhere");
        let folder = elsewhere.join("c5");
        fs::create_dir_all(&folder).unwrap();
        let key = |name: &str| {
            let made = network.json(["keys", "new", name, "--json"]);
            let file = network.root.join(format!("home/keys/{name}.json"));
            fs::copy(file, folder.join(format!("{name}.key"))).unwrap();
            made["address"].as_str().unwrap().to_owned()
        };
        let (operator, node) = (key("operator"), key("node"));
        let dir = network.dir().display().to_string();
        network.json(["faucet", "--dir", &dir, "--address", &operator, "--json"]);
        let entry = json!({"name": "c5", "operator": operator, "node": node, "p2p_port": doors[4]});
        described["nodes"].as_array_mut().unwrap().push(entry);
        described["models"][0]["file"] = json!("/nowhere/dictionary.nesa");
        fs::write(elsewhere.join("network.json"), described.to_string()).unwrap();
        fs::copy(network.dir().join("genesis.json"), elsewhere.join("genesis.json")).unwrap();
        let bootstrap = http::get(network.field("rpc"), "/v1/bootstrap").json();
        let named = bootstrap["peers"].as_array().unwrap().iter();
        let peers = named.zip(doors).map(|(peer, door)| {
            let key = peer.as_str().unwrap().rsplit_once("/p2p/").unwrap().1;
            format!("/ip4/127.0.0.1/tcp/{door}/ws/p2p/{key}")
        });
        let peers = peers.collect();
        let model = artifact.digest().to_string();
        Self { network, elsewhere, model, pieces, node, peers, _line: line }
    }

    fn compute(&self, more: &[&str]) -> Process {
        let dir = self.elsewhere.to_str().unwrap();
        let base = ["node", "compute", "--dir", dir, "--name", "c5"];
        Process::start(&self.network, "c5.log", &[&base[..], more].concat())
    }

    /// What `nesa status` says of the node's fetch.
    fn fetch(&self) -> Value {
        let status = ["status", "--dir", self.elsewhere.to_str().unwrap(), "--json"];
        self.network.json(status)["fetches"]["c5"].clone()
    }
}

#[test]
fn what_is_interrupted_goes_on_and_a_node_serves_what_it_fetched() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::new(folder.path());
    a_killed_fetch_of_a_file_goes_on(&world);
    let node = a_killed_node_goes_on_fetching(&world);
    it_is_drawn_serves_and_is_paid(&world);
    node.kill();
    // Everything is there: nothing is fetched anew.
    let mut again = world.compute(&["--fetch", &world.model, "--keep", "64"]);
    again.ready(&world.network, "c5.log");
    let report = world.fetch();
    assert_eq!(
        (&report["ready"], &report["pieces_fetched"]),
        (&json!(true), &json!(0)),
        "{report}"
    );
    drop(again);
    let mut unknown = world.compute(&["--fetch", "no-such-model"]);
    assert_eq!(unknown.0.wait().unwrap().code(), Some(2));
    let said = fs::read_to_string(world.network.root.join("c5.log")).unwrap();
    assert!(said.contains("no model \"no-such-model\" on this network"), "{said}");
    world.network.stop();
}

/// `nesa model fetch`, killed, its pieces damaged, and run again.
fn a_killed_fetch_of_a_file_goes_on(world: &World) {
    let rpc = doctored(world);
    let out = world.network.root.join("dictionary.nesa");
    let parts = world.network.root.join("dictionary.nesa.parts");
    let root = world.network.field("trust_root");
    let place = out.display().to_string();
    let fetch = ["model", "fetch", "dictionary", "--out", &place, "--rpc", &rpc, "--json"];
    let fetch = [&fetch[..], &["--trust-root", root]].concat();
    let killed = Process::start(&world.network, "fetch.log", &fetch);
    wait_for("some pieces", || (held(&parts, &world.model).len() >= ENOUGH).then_some(()));
    killed.kill();
    let there = held(&parts, &world.model);
    assert!(there.len() < world.pieces && !out.exists(), "{} pieces", there.len());
    // One of them is damaged while nobody looks, another is cut.
    let mut damaged = there.iter();
    let (first, second) = (damaged.next().unwrap(), damaged.next().unwrap());
    let mut bytes = fs::read(first).unwrap();
    bytes[99] ^= 1;
    fs::write(first, bytes).unwrap();
    File::options().write(true).open(second).unwrap().set_len(1000).unwrap();
    let output = world.network.nesa(&fetch);
    let report: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", show(&output)));
    assert_eq!(report["pieces_fetched"], world.pieces - there.len() + 2, "{report}");
    let original = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/dictionary.nesa");
    assert!(fs::read(&out).unwrap() == fs::read(original).unwrap(), "the same bytes");
    assert!(!parts.exists());
}

/// Somebody's HTTP that names the validators by their addresses behind the line; its address.
fn doctored(world: &World) -> String {
    let mut bootstrap = http::get(world.network.field("rpc"), "/v1/bootstrap").json();
    bootstrap["peers"] = json!(world.peers);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let rpc = format!("http://{}", listener.local_addr().unwrap());
    let body = bootstrap.to_string();
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close";
    let answer = format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            // Whatever is asked, in one read: a short request from this machine.
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    rpc
}

/// A compute node with nothing but its keys, killed while it fetches, and started again.
fn a_killed_node_goes_on_fetching(world: &World) -> Process {
    let data = world.elsewhere.join("c5/data");
    // Two threads beside nodes of one: the traces are equal all the same.
    let serve = ["--fetch", "dictionary", "--keep", "64", "--threads", "2"];
    let killed = world.compute(&serve);
    wait_for("some pieces", || (held(&data, &world.model).len() >= ENOUGH).then_some(()));
    // It says so meanwhile.
    let report = wait_for("a report", || Some(world.fetch()).filter(Value::is_object));
    assert_eq!(report["ready"], false, "{report}");
    killed.kill();
    let there = held(&data, &world.model).len();
    assert!((ENOUGH..world.pieces).contains(&there), "{there} of {}", world.pieces);
    let mut node = world.compute(&serve);
    node.ready(&world.network, "c5.log");
    let report = world.fetch();
    assert_eq!(report["ready"], true, "{report}");
    assert_eq!(report["pieces_fetched"], world.pieces - there, "{report}");
    assert_eq!(held(&data, &world.model).len(), world.pieces);
    node
}

/// Six replicas of each shard, and six nodes: it is one of them.
fn it_is_drawn_serves_and_is_paid(world: &World) {
    let network = &world.network;
    let registered = wait_for("the registration", || {
        let nodes = http::get(network.field("rpc"), "/v1/nodes").json();
        nodes.to_string().contains(&world.node).then(|| height(network))
    });
    // Draws look at a snapshot that is an interval of four blocks old at least.
    wait_for("a snapshot", || (height(network) > registered + 9).then_some(()));
    let how = ["--prompt", "a lighthouse", "--tokens", "8", "--json"];
    let file = network.root.join("dictionary.nesa").display().to_string();
    let alone = network.json([&["model", "generate", &file], &how[..]].concat());
    let dir = network.dir().display().to_string();
    let sealed = ["--lane", "sealed", "--shards", "2", "--replicas", "6", "--deadline", "20"];
    let asked = network.json([&["query", "generate", "--dir", &dir], &how[..], &sealed].concat());
    assert_eq!((&asked["text"], &asked["tokens"]), (&alone["text"], &alone["tokens"]));
    assert_eq!(
        (&asked["standing"], &asked["rejected"]),
        (&json!("verified"), &json!([])),
        "{asked}"
    );
    let served = asked["nodes"].as_array().unwrap().iter().filter(|n| n["node"] == world.node);
    assert_eq!(served.count(), 2, "{asked}");
    let query = asked["query"].as_str().unwrap();
    wait_for("the claims of the node", || {
        let record = http::get(network.field("rpc"), &format!("/v1/query/{query}")).json();
        let commits = record["sealed"]["commits"].as_array()?.clone();
        let paid = |c: &&Value| c["node"] == world.node && !c["claim"].is_null();
        (commits.iter().filter(paid).count() == 2).then_some(())
    });
}

fn height(network: &Network) -> u64 {
    http::get(network.field("rpc"), "/v1/status").json()["head"]["height"].as_u64().unwrap()
}
