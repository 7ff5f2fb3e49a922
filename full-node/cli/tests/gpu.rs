//! Nodes that serve on a graphics processor: the same bytes, and no software where it was not asked for.
//!
//! Any Vulkan device will do, a software one too. Where there is none, the test says so and does nothing.

#![allow(clippy::unwrap_used)] // a failed set-up is a failed test

mod support;

use std::{io::Write as _, path::Path};

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
    let how = ["--prompt", "a lighthouse", "--tokens", "12", "--temperature", "1", "--json"];
    let dir = network.dir();
    let at = dir.to_str().unwrap();
    let sealed = ["--lane", "sealed", "--shards", "2", "--replicas", "2", "--deadline", "12"];
    let (mut on_device, mut on_processor, mut spilled) = (0, 0, 0);
    for model in [&tiny, &packed] {
        let alone = network.json([&["model", "generate", model], &how[..]].concat());
        let digest = alone["digest"].as_str().unwrap();
        let ask = [&["query", "generate", "--dir", at, "--model", digest], &how[..], &sealed];
        // A shard that a busy machine has not placed in time is the processor's, until the next query.
        support::wait_for("a query whose steps the device computed", || {
            let asked = network.json(ask.concat());
            assert_eq!((&asked["text"], &asked["tokens"]), (&alone["text"], &alone["tokens"]));
            assert_eq!(asked["standing"], "verified", "{asked}");
            assert_eq!(asked["rejected"], serde_json::json!([]));
            let before = (on_device, on_processor);
            let settled = support::wait_for("what the nodes say of their devices", || {
                let status = network.json(["status", "--dir", at, "--json"]);
                let devices = status["devices"].as_object()?.clone();
                assert!(devices.values().all(|d| d["dropped"].is_null()), "{devices:?}");
                let sum = |outer: &str, inner: &str| -> u64 {
                    devices.values().filter_map(|device| device[outer][inner].as_u64()).sum()
                };
                (on_device, on_processor) = (sum("steps", "gpu"), sum("steps", "cpu"));
                spilled = sum("steps", "spilled");
                let idle = sum("shards", "sessions") == 0 && sum("shards", "held") > 0;
                (idle && (on_device, on_processor) > before).then_some(on_device > before.0)
            });
            settled.then_some(())
        });
    }
    assert!(on_processor == 0 || spilled > 0, "{on_processor} steps, no session spilled");
    let told = network.nesa(["status", "--dir", at]);
    let told = String::from_utf8(told.stdout).unwrap();
    assert!(told.lines().any(|line| line.starts_with("device  c") && line.contains("steps ")));
    network.stop();
    let said = whole_logs(&dir);
    assert!(said.contains("a shard is served on the device"), "{said}");
    let steps = said.lines().filter(|line| line.contains("steps of shards served"));
    assert!(steps.map(|line| field(line, "gpu=")).sum::<u64>() >= on_device, "{said}");
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
