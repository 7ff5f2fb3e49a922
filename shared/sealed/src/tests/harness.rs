use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use commonware_codec::Encode as _;
use nesa_crypto::SecretKey;
use nesa_kernels::sample::Sampling;
use nesa_model::{
    Artifact, PlainDecoder,
    decoder::{
        DecoderModel, Shard, ShardPlan, WriteRequest, Writing, Written,
        toy::{self, ToyDecoder},
    },
};
use nesa_primitives::{Address, Amount, Hash};
use rand::{SeedableRng as _, rngs::StdRng};

use crate::{
    client::{Action, Candidate, Config, Link, Lost, Relay, RelayError, Transcript},
    message::Refusal,
    opening::Terms,
    server::{self, Bent, Door, Given, Greeting, Outcome, Received, Session},
};

pub(crate) const NOW: u64 = 1_700_000_000_000;
pub(crate) const CHAIN: Hash = Hash([1; 32]);
pub(crate) const QUERY: Hash = Hash([2; 32]);
pub(crate) const PRICE: Amount = Amount(5);

pub(super) fn client_key() -> SecretKey {
    SecretKey::from_seed(&[77; 32])
}

pub(super) fn node_key(link: Link) -> SecretKey {
    SecretKey::from_seed(&[100 + link.shard * 10 + link.seat; 32])
}

pub(super) fn model(layers: u16) -> Artifact {
    toy::artifact(&ToyDecoder { layers, seed: 3, ..ToyDecoder::default() }).unwrap()
}

pub(super) fn request(prompt: usize, tokens: usize) -> WriteRequest {
    WriteRequest {
        prompt: (0..prompt as u32).map(|i| 2 + (i * 7) % 40).collect(),
        tokens,
        sampling: Sampling { temperature: 1 << 16, top_k: 0, top_p: 1 << 16 },
        seed: [9; 32],
        pad_to: 1,
        piece: 5,
        draft: 0,
    }
}

/// A request whose text does not end before `tokens` are written.
pub(super) fn long(artifact: &Artifact, prompt: usize, tokens: usize) -> WriteRequest {
    let seeded = |seed| WriteRequest { seed: [seed; 32], ..request(prompt, tokens) };
    (0..=255).map(seeded).find(|request| alone(artifact, request).len() == tokens).unwrap()
}

/// The text of one machine alone.
pub(super) fn alone(artifact: &Artifact, request: &WriteRequest) -> Vec<u32> {
    let model = DecoderModel::open(artifact).unwrap();
    let mut writing = Writing::start(&model, request.clone()).unwrap();
    let mut tokens = Vec::new();
    loop {
        if let Some([Written::Token(token)]) = writing.run(&PlainDecoder(&model)).unwrap() {
            tokens.push(*token);
        }
        if !writing.goes_on() {
            return tokens;
        }
        writing.advance().unwrap();
    }
}

/// The cuts that the chain knows.
pub(super) fn inner(plan: &ShardPlan) -> Vec<u16> {
    plan.cuts()[1..plan.len()].to_vec()
}

/// What a node of the harness does wrong.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Flips a bit in the result of its step of this number.
    Lie(u32),
    /// Computes one product wrong for this token, and all else from it.
    LieAt(usize),
    /// Is gone when its step of this number is due.
    Die(u32),
    /// Is silent from its step of this number on, and reads what the client says before it leaves.
    Stall(u32),
    /// Refuses at once.
    Refuse,
}

pub(super) struct Node {
    door: Door,
    session: Option<Session>,
    model: DecoderModel,
    terms: Terms,
    key: SecretKey,
    pub(super) outcome: Option<Outcome>,
    /// With consent to disclosure, all that it was given.
    pub(super) given: Vec<Given>,
    pub(super) salt: Option<Hash>,
    pub(super) steps: u32,
    pub(super) tokens: usize,
}

impl Node {
    pub(super) fn new(
        artifact: &Artifact,
        plan: &ShardPlan,
        link: Link,
        (replicas, disclose): (u8, bool),
    ) -> Self {
        let key = node_key(link);
        let layers = plan.layers(link.shard.into()).unwrap();
        let shard = Shard::of_artifact(artifact, layers).unwrap();
        let mut door = Door::new(CHAIN, key.clone());
        door.turn(NOW, &mut StdRng::seed_from_u64(u64::from(link.seat)));
        let terms = Terms {
            chain: CHAIN,
            query: QUERY,
            model: artifact.digest(),
            client_key: client_key().public(),
            role: nesa_crypto::seal::Role { shard: link.shard, seat: link.seat },
            cuts: inner(plan),
            replicas,
            price_per_token: PRICE,
            budget: Amount(1 << 40),
            max_tokens: 64,
            disclose,
        };
        let model = DecoderModel::open_shard(&shard).unwrap();
        Self {
            door,
            session: None,
            model,
            terms,
            key,
            outcome: None,
            given: Vec::new(),
            salt: None,
            steps: 0,
            tokens: 0,
        }
    }

    /// The root that a run of what the node was given leads to, with its lie.
    pub(super) fn replayed(&self, lie: Option<usize>) -> Option<Hash> {
        let keep = |_: &nesa_trace::Geometry| -> nesa_trace::Keep { Box::new(|_, _| false) };
        let bytes: Vec<Bytes> = self.given.iter().map(|given| given.encode()).collect();
        let limits = crate::message::Limits::of_width(32);
        let given: Vec<Given> = bytes
            .iter()
            .map(|bytes| nesa_primitives::decode_exact(bytes, &limits).unwrap())
            .collect();
        assert_eq!(given, self.given);
        let (trace, rows) = server::replay(
            (&self.model, &nesa_model::PlainDecoder(&self.model)),
            &self.salt?,
            &given,
            &keep,
            lie,
        )?;
        assert!(rows.is_empty());
        Some(trace.root(nesa_trace::token_bits(self.terms.max_tokens)))
    }

    /// The total of the vouchers it holds.
    pub(super) fn paid(&self) -> Amount {
        let voucher = self.session.as_ref().and_then(Session::latest_voucher);
        voucher.map_or(Amount::ZERO, |voucher| voucher.total)
    }

    /// The node's answer to a frame; an error is a broken link.
    pub(super) fn answer(
        &mut self,
        frame: &[u8],
        fault: Option<Fault>,
    ) -> Result<Option<Bytes>, ()> {
        if fault == Some(Fault::Refuse) {
            return Ok(Some(server::refuse(Refusal::Unavailable)));
        }
        let Some(session) = &mut self.session else {
            return match self.door.receive(frame) {
                Ok(Greeting::Reply(reply)) => Ok(Some(reply)),
                Ok(Greeting::Asked(asked)) => {
                    let (model, key) = (self.model.clone(), self.key.clone());
                    let began = Session::start(*asked, self.terms.clone(), model, key);
                    let (session, accept) = began.map_err(drop)?;
                    self.session = Some(session);
                    Ok(Some(accept))
                }
                Err(refusal) => Ok(Some(server::refuse(refusal))),
            };
        };
        match session.receive(frame) {
            Ok(Received::Quiet) => Ok(None),
            Ok(Received::Reply(reply)) => Ok(Some(reply)),
            Ok(Received::Finished { reply, outcome }) => {
                self.given.extend(session.take_given());
                self.salt = session.salt();
                self.outcome = Some(*outcome);
                Ok(Some(reply))
            }
            Ok(Received::Work(job)) => {
                if fault == Some(Fault::Die(self.steps)) {
                    return Err(());
                }
                let before = self.tokens;
                self.tokens += job.tokens();
                let plain = PlainDecoder(&self.model);
                let row = match fault {
                    Some(Fault::LieAt(token)) if (before..self.tokens).contains(&token) => {
                        Some(token - before)
                    }
                    _ => None,
                };
                let mut done = match row {
                    Some(row) => {
                        let bent = Bent::new(&self.model, &plain, row, self.tokens - before);
                        server::run(vec![job], &self.model, &bent)
                    }
                    None => server::run(vec![job], &self.model, &plain),
                };
                let mut done = done.remove(0);
                if fault == Some(Fault::Lie(self.steps)) {
                    done.corrupt();
                }
                let stalls = fault == Some(Fault::Stall(self.steps));
                self.steps += 1;
                let answer = session.complete(done);
                if stalls { Err(()) } else { Ok(answer) }
            }
            Err(error) => Ok(session.refuse(error.refusal())),
        }
    }
}

/// How the nodes are reached: in the order things were sent, or another one.
#[derive(Clone, Copy)]
pub(super) struct Setting<'a> {
    pub(super) plan: &'a ShardPlan,
    pub(super) replicas: usize,
    pub(super) seats: usize,
    pub(super) faults: &'a [(Link, Fault)],
    pub(super) disclose: bool,
    /// Which of the waiting frames comes next; 0 for the oldest.
    pub(super) order: u64,
}

pub(super) struct Ran {
    pub(super) result: Result<Transcript, RelayError>,
    /// Tokens as they were shown, and how many were agreed on when the last `Agreed` came.
    pub(super) shown: Vec<u32>,
    pub(super) agreed: usize,
    pub(super) replaced: Vec<(Link, Lost)>,
    pub(super) nodes: BTreeMap<Link, Node>,
}

pub(super) fn config(
    artifact: &Artifact,
    plan: &ShardPlan,
    replicas: usize,
    disclose: bool,
) -> Config {
    Config {
        chain: CHAIN,
        query: QUERY,
        model: artifact.digest(),
        plan: plan.clone(),
        d_model: 0,
        context: 0,
        ends: Vec::new(),
        replicas,
        price_per_token: PRICE,
        client_key: client_key(),
        disclose,
    }
    .sized(&DecoderModel::open(artifact).unwrap())
}

pub(super) fn seats(plan: &ShardPlan, count: usize) -> Vec<Vec<Candidate>> {
    (0..plan.len() as u8)
        .map(|shard| {
            let seat = |seat| {
                let node = node_key(Link { shard, seat }).public();
                Candidate { node, operator: Address([seat; 32]) }
            };
            (0..count as u8).map(seat).collect()
        })
        .collect()
}

/// Runs a query to its end.
pub(super) fn run(artifact: &Artifact, request: &WriteRequest, setting: Setting<'_>) -> Ran {
    run_until(artifact, request, setting, None)
}

/// Runs a query, and stops it when so many tokens were shown.
pub(super) fn run_until(
    artifact: &Artifact,
    request: &WriteRequest,
    setting: Setting<'_>,
    mut stop: Option<usize>,
) -> Ran {
    let Setting { plan, replicas, seats: count, faults, disclose, order } = setting;
    let config = config(artifact, plan, replicas, disclose);
    let rng = StdRng::seed_from_u64(5);
    let mut relay = Relay::new(config, request, &seats(plan, count), rng).unwrap();
    let mut ran = Ran {
        result: Err(RelayError::NoSpare { shard: 0, reason: Lost::Gone }),
        shown: Vec::new(),
        agreed: 0,
        replaced: Vec::new(),
        nodes: BTreeMap::new(),
    };
    let mut gone: BTreeSet<Link> = BTreeSet::new();
    // Frames to nodes; what a node answers is taken at once.
    let mut wire: VecDeque<(Link, Bytes)> = VecDeque::new();
    let mut actions: VecDeque<Action> = relay.start().into();
    let mut dice = order;
    loop {
        while let Some(action) = actions.pop_front() {
            match action {
                Action::Connect { link, candidate } => {
                    assert_eq!(candidate.node, node_key(link).public());
                    ran.nodes
                        .insert(link, Node::new(artifact, plan, link, (replicas as u8, disclose)));
                }
                Action::Send { link, frame } => wire.push_back((link, frame)),
                Action::Close { link } => {
                    gone.insert(link);
                }
                Action::Token(token) => ran.shown.push(token),
                Action::Agreed(tokens) => {
                    assert!(tokens > ran.agreed && tokens <= ran.shown.len());
                    ran.agreed = tokens;
                }
                Action::Replaced { link, reason, .. } => ran.replaced.push((link, reason)),
                Action::Done(transcript) => {
                    ran.result = Ok(*transcript);
                    return ran;
                }
                Action::Failed(error) => {
                    ran.result = Err(error);
                    return ran;
                }
            }
        }
        if stop.is_some_and(|after| ran.shown.len() >= after) {
            stop = None;
            actions.extend(relay.stop());
            continue;
        }
        // Links are served in any order, each in its own.
        dice = dice.wrapping_mul(6364136223846793005).wrapping_add(order);
        let links: Vec<Link> = {
            let set: BTreeSet<Link> = wire.iter().map(|(link, _)| *link).collect();
            set.into_iter().collect()
        };
        assert!(!links.is_empty(), "nobody has anything to say: {:?}", relay.waiting_on());
        let at = match order {
            0 => 0,
            _ => {
                let link = links[(dice >> 33) as usize % links.len()];
                wire.iter().position(|(l, _)| *l == link).unwrap()
            }
        };
        let (link, frame) = wire.remove(at).unwrap();
        if gone.contains(&link) {
            continue;
        }
        let fault = faults.iter().find(|(l, _)| *l == link).map(|(_, fault)| *fault);
        match ran.nodes.get_mut(&link).unwrap().answer(&frame, fault) {
            Ok(Some(reply)) => actions.extend(relay.received(link, &reply, NOW)),
            Ok(None) => {}
            Err(()) => {
                gone.insert(link);
                let last = relay.lost(link);
                if matches!(fault, Some(Fault::Stall(_))) {
                    let node = ran.nodes.get_mut(&link).unwrap();
                    let late = wire.iter().filter(|(l, _)| *l == link).map(|(_, frame)| frame);
                    let farewell = last.iter().filter_map(|action| match action {
                        Action::Send { link: to, frame } => (*to == link).then_some(frame),
                        _ => None,
                    });
                    for frame in late.chain(farewell) {
                        node.answer(frame, None).unwrap();
                    }
                }
                actions.extend(last);
            }
        }
    }
}
