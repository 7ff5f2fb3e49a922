//! Nodes that serve on a graphics processor: the same bytes, and no software where it was not asked for.
//!
//! Any Vulkan device will do, a software one too. Where there is none, the test says so and does nothing.

#![allow(clippy::unwrap_used)] // a failed set-up is a failed test

mod support;

use std::{io::Write as _, path::Path, time::Duration};

use nesa_gpu::{Gpu, GpuError, Purpose};
use support::{Network, run, show, tiny_decoder};

/// Whether there is a device, and whether it is software.
fn device() -> Option<bool> {
    match futures::executor::block_on(Gpu::open(Purpose::Check)) {
        Ok(gpu) => Some(gpu.info().software),
        Err(GpuError::Adapter(error)) => {
            assert!(std::env::var_os("NESA_REQUIRE_ADAPTER").is_none(), "no adapter: {error}");
            // Past the test harness, which keeps what passing tests print.
            let said = format!("NOT RUN, no adapter ({error})\n");
            std::io::stderr().write_all(said.as_bytes()).unwrap();
            None
        }
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn nodes_on_a_graphics_processor_give_the_same_bytes() {
    let Some(software) = device() else { return };
    let folder = tempfile::tempdir().unwrap();
    let digits = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/digits");
    let model = digits.join("digits.nesa").display().to_string();
    let samples = std::fs::read(digits.join("held_out.npy")).unwrap();
    let image = folder.path().join("digit.pgm");
    std::fs::write(&image, [b"P5 8 8 16\n", &samples[128 + 64..][..64]].concat()).unwrap();
    let image = image.display().to_string();
    let serve = ["--port", "0", "--model", &model, "--gpu=64", "--gpu-software"];
    let network = Network::start(folder.path(), &serve);
    let alone = network.json(["model", "classify", &model, "--image", &image, "--json"]);
    let (rpc, root) = (network.field("rpc").to_owned(), network.field("trust_root").to_owned());
    let ask = ["query", "classify", "--rpc", &rpc, "--trust-root", &root, "--json", &image];
    let asked = network.json(ask);
    assert_eq!(asked["logits"], alone["logits"]);
    assert_eq!(asked["rejected"], serde_json::json!([]));
    let dir = network.dir();
    network.stop();
    // Which node was drawn is chance; all together served the query, and only on the device.
    let said = whole_logs(&dir);
    assert!(said.contains("serves on a graphics processor"), "{said}");
    let counts: Vec<(u64, u64)> = said
        .lines()
        .filter(|line| line.contains("products served"))
        .map(|line| (field(line, "gpu="), field(line, "cpu=")))
        .collect();
    assert!(!counts.is_empty(), "{said}");
    assert!(counts.iter().map(|(gpu, _)| gpu).sum::<u64>() > 0, "{counts:?}");
    assert_eq!(counts.iter().map(|(_, cpu)| cpu).sum::<u64>(), 0, "{counts:?}");

    // Software is not taken for a graphics processor unless a test says so.
    if software {
        let again = ["up", "--dir", &dir.display().to_string(), "--gpu"].map(str::to_owned);
        let refused = run(&folder.path().join("home"), again);
        assert!(!refused.status.success());
        assert!(show(&refused).contains("is a software adapter"), "{}", show(&refused));
    }
}

/// What is asked for, of this machine alone and of the network.
const HOW: [&str; 7] =
    ["--prompt", "a lighthouse", "--tokens", "12", "--temperature", "1", "--json"];

/// What all nodes say of their devices.
#[derive(Debug, PartialEq)]
struct Said {
    on_device: u64,
    on_processor: u64,
    spilled: u64,
    dropped: Vec<String>,
}

/// Asks for a text through the sealed lane, which must be the one of this machine; what the nodes say when
/// they are through.
fn ask_sealed(network: &Network, model: &str) -> Said {
    let alone = network.json([&["model", "generate", model], &HOW[..]].concat());
    let (dir, digest) = (network.dir(), alone["digest"].as_str().unwrap());
    let at = dir.to_str().unwrap();
    let before = told(network).map_or((0, 0), |said| (said.on_device, said.on_processor));
    let ask = ["query", "generate", "--dir", at, "--model", digest];
    let sealed = ["--lane", "sealed", "--shards", "2", "--replicas", "2", "--deadline", "12"];
    let asked = network.json([&ask, &HOW[..], &sealed].concat());
    assert_eq!((&asked["text"], &asked["tokens"]), (&alone["text"], &alone["tokens"]));
    assert_eq!(asked["standing"], "verified", "{asked}");
    assert_eq!(asked["rejected"], serde_json::json!([]));
    let mut last = None;
    // Nodes write once a second: all have when nothing changes for longer.
    support::wait_for("what the nodes say of their devices", || {
        let said = told(network).filter(|said| (said.on_device, said.on_processor) > before);
        let same = said.is_some() && said == last;
        last = said;
        std::thread::sleep(Duration::from_millis(1500));
        if same { last.take() } else { None }
    })
}

/// What the nodes say, while none of them has a session on its device.
fn told(network: &Network) -> Option<Said> {
    let status = network.json(["status", "--dir", network.dir().to_str().unwrap(), "--json"]);
    let devices: Vec<_> = status["devices"].as_object()?.values().collect();
    let sum = |outer: &str, inner: &str| -> u64 {
        devices.iter().filter_map(|device| device[outer][inner].as_u64()).sum()
    };
    let dropped = devices.iter().filter_map(|device| device["dropped"].as_str());
    let said = Said {
        on_device: sum("steps", "gpu"),
        on_processor: sum("steps", "cpu"),
        spilled: sum("steps", "spilled"),
        dropped: dropped.map(str::to_owned).collect(),
    };
    (sum("shards", "sessions") == 0).then_some(said)
}

/// The sealed lane: shards on the device, with weights of bytes and of four bits, their text and the traces
/// that they reveal.
#[test]
fn shards_on_a_graphics_processor_write_the_text_of_the_processor() {
    if device().is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let tiny = tiny_decoder(folder.path());
    let [original, packed] = ["tiny", "packed.nesa"].map(|name| folder.path().join(name));
    let [original, packed] = [original, packed].map(|path| path.display().to_string());
    let compile = ["model", "compile", &original, "--out", &packed, "--weights", "4"];
    let compiled = run(folder.path(), compile);
    assert!(compiled.status.success(), "{}", show(&compiled));
    let models = ["--model", &tiny, "--model", &packed];
    let serve = [&["--port", "0", "--gpu=4096", "--gpu-software"], &models[..]].concat();
    let network = Network::start(folder.path(), &serve);
    let mut on_device = 0;
    for model in [&tiny, &packed] {
        // A shard that a busy machine has not placed in time is the processor's, until the next query.
        on_device = support::wait_for("a query whose steps the device computed", || {
            let said = ask_sealed(&network, model);
            assert_eq!(said.dropped, [""; 0], "{said:?}");
            assert!(said.on_processor == 0 || said.spilled > 0, "{said:?}");
            (said.on_device > on_device).then_some(said.on_device)
        });
    }
    let dir = network.dir();
    let told = network.nesa(["status", "--dir", dir.to_str().unwrap()]);
    let told = String::from_utf8(told.stdout).unwrap();
    let line = |line: &str| line.starts_with("device  c") && line.contains("steps ");
    assert!(told.lines().any(line), "{told}");
    network.stop();
    let said = whole_logs(&dir);
    assert!(said.contains("a shard is served on the device"), "{said}");
    let steps = said.lines().filter(|line| line.contains("steps of shards served"));
    assert!(steps.map(|line| field(line, "gpu=")).sum::<u64>() >= on_device, "{said}");
}

/// Every device flips a bit in mid-text: the text and the traces stay those of the processor, no node is
/// replaced, and the nodes say why their devices are not asked any more.
#[test]
fn devices_that_turn_wrong_in_mid_text_change_no_byte() {
    if device().is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let tiny = tiny_decoder(folder.path());
    let wrong = ["--gpu=4096", "--gpu-software", "--gpu-wrong-after=4"];
    let serve = [&["--port", "0", "--model", &tiny], &wrong[..]].concat();
    let network = Network::start(folder.path(), &serve);
    let said = support::wait_for("a query that a device began", || {
        Some(ask_sealed(&network, &tiny)).filter(|said| said.on_device > 0)
    });
    assert!(said.on_processor > 0 && !said.dropped.is_empty(), "{said:?}");
    assert!(said.dropped.iter().all(|why| why == "one of its products was wrong"), "{said:?}");
    let dir = network.dir();
    let told = network.nesa(["status", "--dir", dir.to_str().unwrap()]);
    let told = String::from_utf8(told.stdout).unwrap();
    assert!(told.contains("not used any more: one of its products was wrong"), "{told}");
    network.stop();
}

fn whole_logs(dir: &Path) -> String {
    let folders = std::fs::read_dir(dir).unwrap().flatten();
    folders.filter_map(|entry| std::fs::read_to_string(entry.path().join("log")).ok()).collect()
}

fn field(line: &str, name: &str) -> u64 {
    let (_, rest) = line.split_once(name).unwrap();
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap()
}
