//! Times one masked query of the compiled MiniLM over a link of known rate, as JSON:
//! `cargo run --profile local -p nesa-masked --example lane -- models/all-minilm-l6-v2.nesa`
//!
//! The client's and the servers' state machines really run; what they compute is timed on the
//! processor. Only the link is a model: one medium for all the client sends and receives, so many
//! bytes a millisecond, and so long a way. Client, A and B each have a clock of their own, as they
//! have machines of their own, which two shared cores could not show. Transport costs (encryption,
//! framing) are not in it; `nesa query --json` has those.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    sync::Arc,
    time::Instant,
};

use cpu_time::ThreadTime;
use nesa_chain::Side;
use nesa_crypto::sign::SecretKey;
use nesa_masked::{
    Lane,
    batch::Plan,
    client::{Action, Candidate, Committee, Config, Link, Pass, Session},
    preparation::Preparation,
    server::{self, Received, Terms},
};
use nesa_model::{Artifact, EncoderRun, Model, ModelLimits, PlainEngine, StageId, TokenIds};
use nesa_primitives::{Amount, Hash};
use rand::{SeedableRng, rngs::StdRng};

type Failure = Box<dyn std::error::Error>;

const CHAIN: Hash = Hash([1; 32]);
const QUERY: Hash = Hash([2; 32]);
/// As `light-client/core` asks B ahead of A.
const AHEAD: usize = 3;
/// Each setting is run this often; the fastest counts, since other programs only ever slow one down.
const RUNS: usize = 3;

/// A link: its rate in bytes per millisecond, its delay one way in milliseconds.
const LINKS: [(&str, f64, f64); 3] = [
    ("100 Mbit/s, 5 ms", 12_500.0, 5.0),
    ("100 Mbit/s, no delay", 12_500.0, 0.0),
    ("1 Gbit/s, 0.5 ms", 125_000.0, 0.5),
];

/// Milliseconds that `work` took: on the processor if the system tells, else by the clock.
fn timed<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let (before, wall) = (ThreadTime::try_now(), Instant::now());
    let out = work();
    let spent = before.map_or_else(|_| wall.elapsed(), |before| before.elapsed());
    (out, spent.as_secs_f64() * 1e3)
}

/// A frame about to enter the medium, or arriving.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Event {
    /// Microseconds from the start, and a number that keeps the order; the earliest comes first.
    when: Reverse<(u64, u64)>,
    arrives: bool,
    link: Link,
    to_client: bool,
    bytes: Vec<u8>,
}

/// What one query took, milliseconds.
#[derive(Default, Clone, Copy)]
struct Taken {
    total: f64,
    client: f64,
    a: f64,
    b: f64,
    bytes: f64,
}

/// The medium and the three machines, each free from some moment on.
struct World {
    rate: f64,
    delay: f64,
    medium: f64,
    free: BTreeMap<Option<Link>, f64>,
    events: BinaryHeap<Event>,
    count: u64,
    taken: Taken,
}

impl World {
    fn push(&mut self, at: f64, event: Event) {
        self.count += 1;
        let when = Reverse(((at * 1e3) as u64, self.count));
        self.events.push(Event { when, ..event });
    }

    /// A frame is ready to be sent at `at`.
    fn ready(&mut self, at: f64, link: Link, to_client: bool, bytes: &[u8]) {
        let when = Reverse((0, 0));
        let bytes = bytes.to_vec();
        self.push(at, Event { when, arrives: false, link, to_client, bytes });
    }

    /// The next frame to arrive, and when.
    fn next(&mut self) -> Option<(f64, Event)> {
        loop {
            let event = self.events.pop()?;
            let at = event.when.0.0 as f64 / 1e3;
            if event.arrives {
                return Some((at, event));
            }
            self.medium = self.medium.max(at) + event.bytes.len() as f64 / self.rate;
            self.taken.bytes += event.bytes.len() as f64;
            self.push(self.medium + self.delay, Event { arrives: true, ..event });
        }
    }
}

fn key(side: Side) -> SecretKey {
    SecretKey::from_seed(&[if side == Side::A { 1 } else { 101 }; 32])
}

fn query(
    model: &Model,
    lane: &Lane,
    preparation: &Arc<Preparation>,
    text: &TokenIds,
    (rate, delay): (f64, f64),
) -> Result<(Taken, Vec<i32>), Failure> {
    let client = SecretKey::from_seed(&[55; 32]);
    let seats = |side| {
        let node = key(side).public();
        vec![Candidate { node, operator: node }]
    };
    let config = Config {
        chain: CHAIN,
        query: QUERY,
        model: model.digest(),
        price_per_token: Amount(3),
        client_key: client.clone(),
        ahead: AHEAD,
        open_receipt: false,
    };
    let mut passes = Vec::new();
    for pass in Plan::new(&[text.len()])?.passes {
        passes.push(Pass {
            run: EncoderRun::start(model, std::slice::from_ref(text))?,
            tokens: pass.tokens,
        });
    }
    let committee = Committee { a: seats(Side::A), b: seats(Side::B) };
    let rng = StdRng::seed_from_u64(7);
    let mut session =
        Session::new(config, lane.clone(), committee, preparation.clone(), passes, rng)?;
    let mut servers = BTreeMap::new();
    for side in [Side::A, Side::B] {
        let terms = Terms {
            chain: CHAIN,
            query: QUERY,
            model: model.digest(),
            client_key: client.public(),
            side,
            attempt: 0,
            price_per_token: Amount(3),
            budget: Amount(1_000_000),
            max_tokens: 100_000,
        };
        let session = server::Session::new(terms, lane.clone(), key(side));
        servers.insert(Link { side, attempt: 0 }, session);
    }

    let mut world = World {
        rate,
        delay,
        medium: 0.0,
        free: BTreeMap::new(),
        events: BinaryHeap::new(),
        count: 0,
        taken: Taken::default(),
    };
    let (actions, spent) = timed(|| session.start());
    let mut pending = Some((actions, spent));
    let mut vector = Vec::new();
    loop {
        if let Some((actions, at)) = pending.take() {
            for action in actions {
                match action {
                    Action::Send { link, message } => world.ready(at, link, false, &message),
                    Action::PassDone { output, .. } => {
                        vector = output.into_iter().next().map(|e| e.values).unwrap_or_default();
                        world.taken.total = at;
                    }
                    Action::Done(_) => return Ok((world.taken, vector)),
                    Action::Failed(error) => return Err(error.into()),
                    _ => {}
                }
            }
        }
        let Some((arrived, Event { link, to_client, bytes, .. })) = world.next() else {
            return Err("the query never ended".into());
        };
        let owner = (!to_client).then_some(link);
        let start = world.free.get(&owner).copied().unwrap_or(0.0).max(arrived);
        if to_client {
            let (actions, spent) = timed(|| session.received(link, &bytes));
            world.taken.client += spent;
            world.free.insert(owner, start + spent);
            pending = Some((actions, start + spent));
            continue;
        }
        let Some(server) = servers.get_mut(&link) else { continue };
        let (reply, spent) = timed(|| -> Result<_, Failure> {
            Ok(match server.receive(&bytes)? {
                Received::Reply(bytes) => Some(bytes),
                Received::Work(job) => {
                    let done = job.run(model).ok_or("the weights are here")?;
                    Some(server.complete(done))
                }
                Received::Quiet => None,
                Received::Finished { reply, .. } => Some(reply),
            })
        });
        let total = if link.side == Side::A { &mut world.taken.a } else { &mut world.taken.b };
        *total += spent;
        world.free.insert(owner, start + spent);
        if let Some(reply) = reply? {
            world.ready(start + spent, link, true, &reply);
        }
    }
}

fn main() -> Result<(), Failure> {
    let file = std::env::args().nth(1).ok_or("usage: lane MODEL.nesa")?;
    let model = Model::open(&Artifact::open(std::fs::read(file)?, &ModelLimits::default())?)?;
    let lane = Lane::of_model(model.stages())?;
    let mut rng = StdRng::seed_from_u64(1);
    let weights = |stage| model.weights(StageId(stage));
    let preparation = Preparation::from_weights(model.digest(), &lane, weights, &mut rng)?;
    let preparation = Arc::new(preparation);
    let mut rows = Vec::new();
    for tokens in [32usize, 256] {
        let text = model
            .tokenizer()
            .ok_or("no WordPiece model")?
            .encode_within(&"the ".repeat(tokens), tokens);
        let mut plain = (Vec::new(), f64::MAX);
        for _ in 0..2 * RUNS {
            let run = EncoderRun::start(&model, std::slice::from_ref(&text))?;
            let (out, spent) = timed(|| run.run(&PlainEngine(&model)));
            plain = (out?.into_iter().flat_map(|e| e.values).collect(), spent.min(plain.1));
        }
        for (name, rate, delay) in LINKS {
            let mut best: Option<Taken> = None;
            for _ in 0..RUNS {
                let (taken, vector) = query(&model, &lane, &preparation, &text, (rate, delay))?;
                if vector != plain.0 {
                    return Err("the lane's answer is not the engine's".into());
                }
                if best.is_none_or(|b| taken.total < b.total) {
                    best = Some(taken);
                }
            }
            let t = best.ok_or("nothing was measured")?;
            // What no implementation can beat: all bytes over the medium, and one server's products.
            let floor = t.bytes / rate + t.a;
            rows.push(format!(
                "{{\"tokens\":{tokens},\"link\":\"{name}\",\"total_ms\":{:.1},\"network_ms\":{:.1},\
                 \"servers_ms\":{:.1},\"client_ms\":{:.1},\"plain_ms\":{:.1},\"kib_per_token\":{:.1},\
                 \"floor_ms\":{floor:.1},\"to_floor\":{:.2},\"to_plain\":{:.1}}}",
                t.total,
                t.bytes / rate,
                t.a,
                t.client,
                plain.1,
                t.bytes / tokens as f64 / 1024.0,
                t.total / floor,
                t.total / plain.1,
            ));
        }
    }
    println!("[{}]", rows.join(","));
    Ok(())
}
