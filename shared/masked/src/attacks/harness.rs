//! A whole query in memory: a toy model, honest and lying servers, and a recorder that sees what
//! an observer of both links and of the chain would see.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use bytes::Bytes;
use nesa_chain::Side;
use nesa_crypto::sign::SecretKey;
use nesa_primitives::{Amount, Hash};
use rand::{SeedableRng, rngs::StdRng};

use super::{
    preparer::{self, Lie},
    toy::{MODEL, Toy, ToyRun},
};
use crate::{
    Lane, batch,
    client::{
        Action, Candidate, Committee, Config, Link, Mutant, Pass, Reason, Session, SessionError,
        StartError,
    },
    message::{self, ClientMessage, Limits, Request, ServerMessage},
    pack,
    preparation::Preparation,
    server::{self, Outcome, Received, Terms},
    transcript::Transcript,
};

pub(super) const CHAIN: Hash = Hash([1; 32]);
pub(super) const QUERY: Hash = Hash([2; 32]);
pub(super) const PRICE: Amount = Amount(5);

/// What a server does wrong, at its first answer to the stage named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Exclusive or of one value of the product, signed as if right.
    Xor { stage: u16, part: u16, index: usize, bits: u32 },
    /// The same, and the same again when asked for the full product.
    Stubborn { stage: u16, bits: u32 },
    /// A wrong answer, then silence when blamed.
    Mute { stage: u16 },
    /// No answer, and the stream closes.
    Vanish { stage: u16 },
    /// One bit of the frame flipped on its way out.
    Frame { stage: u16, bit: usize },
    /// Refuses the query.
    Refuse,
}

/// What an observer of every link and of the chain sees of one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Seen {
    Dial(Link),
    Up(Link, &'static str, usize),
    Down(Link, &'static str, usize),
    Close(Link),
    /// A transaction: its kind, tokens and total.
    Transaction(Link, &'static str, u64),
}

struct Node {
    session: server::Session,
    fault: Option<Fault>,
    closed: bool,
    /// Work is answered wrongly at most once per stage.
    spent: bool,
}

/// The setting of one query.
pub(super) struct Scene {
    pub(super) toy: Toy,
    pub(super) faults: BTreeMap<Link, Fault>,
    pub(super) mutant: Option<Mutant>,
    pub(super) spoiled: Option<usize>,
    /// Two strangers make s, the first of them perhaps with a lie.
    pub(super) thin: Option<Lie>,
    pub(super) seed: u64,
    pub(super) open_receipt: bool,
    pub(super) ahead: usize,
}

/// What is left after it.
pub(super) struct Story {
    pub(super) outputs: Vec<Vec<i32>>,
    pub(super) transcript: Option<Transcript>,
    pub(super) failed: Option<SessionError>,
    pub(super) trace: Vec<Seen>,
    pub(super) rejected: Vec<(Link, Reason)>,
    pub(super) rejections: usize,
    pub(super) preparations: usize,
    /// Requests, as the servers got them.
    pub(super) requests: Vec<(Link, Request)>,
    /// Everything that printed: messages through `Debug`, errors, outcomes.
    pub(super) log: String,
    pub(super) outcomes: Vec<(Link, Outcome)>,
}

pub(super) fn key(side: Side, attempt: u8) -> SecretKey {
    SecretKey::from_seed(&[if side == Side::A { 10 } else { 20 } + attempt; 32])
}

pub(super) fn client_key() -> SecretKey {
    SecretKey::from_seed(&[77; 32])
}

pub(super) fn committee() -> Committee {
    let side = |side, base: u8| {
        (0..3)
            .map(|i| Candidate { node: key(side, i).public(), operator: [base + i; 32].into() })
            .collect()
    };
    Committee { a: side(Side::A, 100), b: side(Side::B, 200) }
}

pub(super) fn link(side: Side, attempt: u8) -> Link {
    Link { side, attempt }
}

impl Scene {
    pub(super) fn new() -> Self {
        Self {
            toy: Toy::new(),
            faults: BTreeMap::new(),
            mutant: None,
            spoiled: None,
            thin: None,
            seed: 1,
            open_receipt: false,
            ahead: 1,
        }
    }

    pub(super) fn fault(mut self, side: Side, attempt: u8, fault: Fault) -> Self {
        self.faults.insert(link(side, attempt), fault);
        self
    }

    pub(super) fn mutant(mut self, mutant: Mutant) -> Self {
        self.mutant = Some(mutant);
        self
    }

    pub(super) fn terms(&self, link: Link) -> Terms {
        Terms {
            chain: CHAIN,
            query: QUERY,
            model: MODEL,
            client_key: client_key().public(),
            side: link.side,
            attempt: link.attempt,
            price_per_token: PRICE,
            budget: Amount(10_000),
            max_tokens: 1000,
        }
    }

    fn node(&self, link: Link) -> Node {
        let key = key(link.side, link.attempt);
        Node {
            session: server::Session::new(self.terms(link), self.toy.lane.clone(), key),
            fault: self.faults.get(&link).copied(),
            closed: false,
            spent: false,
        }
    }

    pub(super) fn session(&self, prompts: &[&[i32]]) -> Session<ToyRun, StdRng> {
        let (preparation, rng) = self.preparation();
        self.session_under(Arc::new(preparation), rng, prompts).unwrap()
    }

    /// The preparation of this scene, and the generator behind it.
    pub(super) fn preparation(&self) -> (Preparation, StdRng) {
        let mut rng = StdRng::seed_from_u64(self.seed);
        let mut preparation = match &self.thin {
            None => self.toy.prepare(&mut rng),
            Some(lie) => preparer::prepare(&self.toy, lie, None, &mut rng).0,
        };
        if let Some(stage) = self.spoiled {
            preparation.spoil(stage);
        }
        (preparation, rng)
    }

    pub(super) fn session_under(
        &self,
        preparation: Arc<Preparation>,
        rng: StdRng,
        prompts: &[&[i32]],
    ) -> Result<Session<ToyRun, StdRng>, StartError> {
        self.session_with(committee(), preparation, rng, prompts)
    }

    pub(super) fn session_with(
        &self,
        committee: Committee,
        preparation: Arc<Preparation>,
        rng: StdRng,
        prompts: &[&[i32]],
    ) -> Result<Session<ToyRun, StdRng>, StartError> {
        let passes = prompts
            .iter()
            .map(|p| Pass {
                run: ToyRun::new(&self.toy, p),
                tokens: batch::bucket(p.len()).unwrap(),
            })
            .collect();
        let config = Config {
            chain: CHAIN,
            query: QUERY,
            model: MODEL,
            price_per_token: PRICE,
            client_key: client_key(),
            ahead: self.ahead,
            open_receipt: self.open_receipt,
        };
        let lane = self.toy.lane.clone();
        let mut session = Session::new(config, lane, committee, preparation, passes, rng)?;
        session.mutant = self.mutant;
        Ok(session)
    }

    /// Runs the query to its end, one frame at a time in the order sent.
    pub(super) fn play(&self, prompts: &[&[i32]]) -> Story {
        self.play_session(self.session(prompts))
    }

    pub(super) fn play_session(&self, mut session: Session<ToyRun, StdRng>) -> Story {
        let mut story = Story {
            outputs: Vec::new(),
            transcript: None,
            failed: None,
            trace: Vec::new(),
            rejected: Vec::new(),
            rejections: 0,
            preparations: 0,
            requests: Vec::new(),
            log: String::new(),
            outcomes: Vec::new(),
        };
        let mut nodes: BTreeMap<Link, Node> = BTreeMap::new();
        let mut frames: VecDeque<(Link, Bytes)> = VecDeque::new();
        let mut actions: VecDeque<Action<Vec<i32>>> = session.start().into();
        loop {
            while let Some(action) = actions.pop_front() {
                if let Action::Connect { link, candidate } = &action {
                    assert_eq!(candidate.node, key(link.side, link.attempt).public());
                    nodes.insert(*link, self.node(*link));
                }
                match action {
                    Action::Send { link, message } => frames.push_back((link, message)),
                    Action::Prepare => {
                        story.preparations += 1;
                        let fresh = self.toy.prepare(&mut StdRng::seed_from_u64(999));
                        actions.extend(session.prepared(Arc::new(fresh)));
                    }
                    other => story.note(other, &mut nodes),
                }
            }
            let Some((link, frame)) = frames.pop_front() else { break };
            let answers = story.deliver(self, nodes.get_mut(&link).unwrap(), link, &frame);
            for answer in answers {
                actions.extend(match answer {
                    Some(bytes) => session.received(link, &bytes),
                    None => session.lost(link),
                });
            }
        }
        assert!(session.is_over(), "the query came to an end: {:?}", session.waiting_on());
        // Servers whose client is gone settle on their own.
        for (&link, node) in &mut nodes {
            if story.outcomes.iter().all(|(l, _)| *l != link)
                && let Some(outcome) = node.session.abandon()
            {
                story.outcome(link, outcome);
            }
        }
        story
    }
}

impl Story {
    fn note(&mut self, action: Action<Vec<i32>>, nodes: &mut BTreeMap<Link, Node>) {
        match action {
            Action::Connect { link, .. } => self.trace.push(Seen::Dial(link)),
            Action::Close { link } => {
                self.trace.push(Seen::Close(link));
                if let Some(node) = nodes.get_mut(&link) {
                    node.closed = true;
                }
            }
            Action::Rejected { .. } => self.rejections += 1,
            Action::Replaced(r) => {
                self.log += &format!("{r:?}\n");
                self.rejected.push((r.link, r.reason));
            }
            Action::PassDone { output, .. } => self.outputs.push(output),
            Action::Done(transcript) => self.transcript = Some(*transcript),
            Action::Failed(error) => {
                self.log += &format!("{error:?} {error}\n");
                self.failed = Some(error);
            }
            Action::Progress(progress) => self.log += &format!("{progress:?}\n"),
            Action::Send { .. } | Action::Prepare => unreachable!("handled by the pump"),
        }
    }

    fn outcome(&mut self, link: Link, outcome: Outcome) {
        self.log += &format!("{outcome:?}\n");
        let tokens = u64::from(outcome.served_tokens);
        self.trace.push(Seen::Transaction(link, "commit", tokens));
        if let Some(voucher) = &outcome.voucher {
            self.trace.push(Seen::Transaction(link, "claim", voucher.total.0));
        }
        self.outcomes.push((link, outcome));
    }

    /// One frame to one server; `None` among the answers is a closed stream.
    fn deliver(
        &mut self,
        scene: &Scene,
        node: &mut Node,
        link: Link,
        frame: &Bytes,
    ) -> Vec<Option<Bytes>> {
        if node.closed {
            return Vec::new();
        }
        let limits = Limits { payload: scene.toy.lane.max_message() };
        let message = message::decode_client(frame, &limits).unwrap();
        self.log += &format!("{message:?}\n");
        self.trace.push(Seen::Up(link, kind_up(&message), frame.len()));
        let (work, slot) = match &message {
            ClientMessage::Work(r) => (true, Some(r.slot())),
            ClientMessage::Blame(r) => (false, Some(r.slot())),
            _ => (false, None),
        };
        if let ClientMessage::Work(r) | ClientMessage::Blame(r) = &message {
            self.requests.push((link, r.clone()));
        }
        let stage = slot.map(|s| s.stage);
        if node.fault == Some(Fault::Refuse) {
            return vec![Some(server::refuse(message::Refusal::NotDrawn))];
        }
        match node.fault {
            Some(Fault::Vanish { stage: s }) if work && stage == Some(s) => {
                node.closed = true;
                return vec![None];
            }
            Some(Fault::Mute { stage: s }) if !work && stage == Some(s) => {
                node.closed = true;
                return vec![None];
            }
            _ => {}
        }
        let reply = match node.session.receive(frame) {
            Ok(Received::Reply(bytes)) => bytes,
            Ok(Received::Quiet) => return Vec::new(),
            Ok(Received::Finished { reply, outcome }) => {
                self.outcome(link, outcome);
                reply
            }
            Ok(Received::Work(job)) => {
                let mut done = job.run(&scene.toy).unwrap();
                match node.fault {
                    Some(Fault::Xor { stage: s, part, index, bits })
                        if work
                            && !node.spent
                            && stage == Some(s)
                            && slot.is_some_and(|x| x.part == part) =>
                    {
                        node.spent = true;
                        done.corrupt(index, bits);
                    }
                    Some(Fault::Stubborn { stage: s, bits }) if stage == Some(s) => {
                        done.corrupt(0, bits);
                    }
                    Some(Fault::Mute { stage: s }) if work && stage == Some(s) => {
                        done.corrupt(0, 1);
                    }
                    _ => {}
                }
                node.session.complete(done)
            }
            Err(error) => {
                self.log += &format!("{error:?} {error}\n");
                server::refuse(error.refusal())
            }
        };
        let answer = message::decode_server(&reply, &limits).unwrap();
        self.log += &format!("{answer:?}\n");
        self.trace.push(Seen::Down(link, kind_down(&answer), reply.len()));
        if let Some(Fault::Frame { stage: s, bit }) = node.fault
            && work
            && stage == Some(s)
            && !node.spent
        {
            node.spent = true;
            let mut bytes = reply.to_vec();
            let len = bytes.len();
            bytes[bit / 8 % len] ^= 1 << (bit % 8);
            return vec![Some(bytes.into())];
        }
        vec![Some(reply)]
    }

    /// Every live share of the query: what A got, and what B expands its seeds to.
    pub(super) fn shares(&self, lane: &Lane) -> Vec<(Link, Vec<u32>)> {
        self.requests
            .iter()
            .map(|(link, request)| {
                let slot = request.slot();
                let (_, stage) = lane.find(slot.stage).unwrap();
                let len = (stage.k * slot.rows()) as usize;
                let words = match request {
                    Request::Share { share, .. } => {
                        pack::unpack(share, len, stage.share_bits()).unwrap()
                    }
                    Request::Seed { seed, .. } => {
                        crate::share::expand(&seed.seed(), len, stage.share_bits()).to_vec()
                    }
                };
                (*link, words)
            })
            .collect()
    }
}

fn kind_up(message: &ClientMessage) -> &'static str {
    match message {
        ClientMessage::Open(_) => "open",
        ClientMessage::Work(_) => "work",
        ClientMessage::Voucher(_) => "voucher",
        ClientMessage::Blame(_) => "blame",
        ClientMessage::Finish { .. } => "finish",
    }
}

fn kind_down(message: &ServerMessage) -> &'static str {
    match message {
        ServerMessage::Accept => "accept",
        ServerMessage::Product(_) => "product",
        ServerMessage::Full { .. } => "full",
        ServerMessage::Commit(_) => "commit",
        ServerMessage::Refused(_) => "refused",
    }
}
