//! One stream to one node: prekey, envelope, then steps and their answers in order.

use bytes::Bytes;
use commonware_codec::Encode as _;
use nesa_chain::ShardVoucher;
use nesa_crypto::{
    SecretKey, Signature,
    seal::{Binding, Envelope, Opener, Role, Sealer},
    sign::verify_strict,
};
use nesa_model::decoder::ShardPlan;
use nesa_primitives::{Address, Hash, decode_exact};
use nesa_trace::End;
use rand_core::CryptoRng;
use std::collections::VecDeque;
use thiserror::Error;

use crate::{
    activation::row_digest,
    message::{
        COMMITMENT_TAG, Commitment, Frame, FrameLimits, Input, Limits, Refusal, Request, Response,
        Step, Stepped, Want, commitment_message,
    },
    opening::{Choice, Opening},
};

/// What a session is for, fixed before the node says anything.
#[derive(Clone)]
pub(crate) struct Purpose {
    pub(crate) chain: Hash,
    pub(crate) query: Hash,
    pub(crate) model: Hash,
    pub(crate) node: Address,
    pub(crate) role: Role,
    /// The replica whose place the node takes.
    pub(crate) replica: u8,
    /// What inputs and roots of this query are salted with.
    pub(crate) salt: Hash,
    pub(crate) plan: ShardPlan,
    pub(crate) d_model: usize,
    pub(crate) max_tokens: u32,
    pub(crate) choice: Choice,
}

/// The client's end of one stream.
pub struct Session {
    purpose: Purpose,
    limits: Limits,
    state: State,
    /// Steps sent and not answered.
    owed: VecDeque<Owed>,
    truncating: Option<u32>,
    next_seq: u32,
    /// Tokens that the node's cache holds once all is answered.
    tokens: u32,
}

enum State {
    /// The prekey was asked for.
    Greeting,
    /// The envelope is on its way.
    Opening {
        sealer: Sealer,
        opener: Opener,
    },
    /// Steps may be sent.
    Ready {
        sealer: Sealer,
        opener: Opener,
    },
    /// The commitment was asked for.
    Finishing {
        opener: Opener,
    },
    Over,
}

struct Owed {
    seq: u32,
    position: usize,
    tokens: usize,
    want: Want,
}

/// What a frame from the node means.
#[derive(Debug)]
pub enum Event {
    /// To be sent to the node.
    Send(Bytes),
    /// Steps may be sent.
    Ready,
    /// A step was answered. Its digests are those of its rows.
    Stepped(Stepped),
    /// The node forgot tokens.
    Truncated,
    /// The node committed; the session is over.
    Committed(Commitment),
}

/// Why a node is given up. Links break too, but these are the node's own doing.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Misbehaviour {
    /// It refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Its prekey is not to be sealed to.
    #[error("a bad prekey: {0}")]
    Prekey(#[from] nesa_crypto::seal::PrekeyError),
    /// Its frame does not open or decode, or comes out of turn.
    #[error("a frame that is no answer: {what}")]
    Protocol {
        /// What is wrong.
        what: &'static str,
    },
    /// Its rows are not what its digests name.
    #[error("row {row} of step {seq} is not what its digest names")]
    Digest {
        /// The step.
        seq: u32,
        /// The row.
        row: usize,
    },
}

impl Session {
    /// Begins; the frame to send.
    pub(crate) fn start(purpose: Purpose) -> (Self, Bytes) {
        let hello = Frame::Hello { chain: purpose.chain, node: purpose.node }.encode();
        let session = Self {
            limits: Limits::of_width(purpose.d_model),
            purpose,
            state: State::Greeting,
            owed: VecDeque::new(),
            truncating: None,
            next_seq: 0,
            tokens: 0,
        };
        (session, hello)
    }

    /// The largest frame that the node may send, bytes.
    pub fn max_frame(&self) -> usize {
        self.limits.frame()
    }

    /// Whether an answer is owed.
    pub fn is_waiting(&self) -> bool {
        match self.state {
            State::Greeting | State::Opening { .. } | State::Finishing { .. } => true,
            State::Ready { .. } => !self.owed.is_empty() || self.truncating.is_some(),
            State::Over => false,
        }
    }

    /// Whether the session is on its way to stand, or answers to steps are owed.
    pub(crate) fn is_owed(&self) -> bool {
        self.is_waiting() && !matches!(self.state, State::Finishing { .. })
    }

    /// Whether steps may be sent.
    pub fn is_ready(&self) -> bool {
        matches!(self.state, State::Ready { .. })
    }

    /// Steps sent and not answered.
    pub fn outstanding(&self) -> usize {
        self.owed.len()
    }

    /// Takes the node's next frame. After an error the session is over.
    ///
    /// # Errors
    /// [`Misbehaviour`].
    pub(crate) fn receive(
        &mut self,
        frame: &[u8],
        key: &SecretKey,
        now_ms: u64,
        rng: &mut impl CryptoRng,
    ) -> Result<Event, Misbehaviour> {
        let event = self.handle(frame, key, now_ms, rng);
        if event.is_err() {
            self.state = State::Over;
        }
        event
    }

    fn handle(
        &mut self,
        frame: &[u8],
        key: &SecretKey,
        now_ms: u64,
        rng: &mut impl CryptoRng,
    ) -> Result<Event, Misbehaviour> {
        let wrong = |what| Misbehaviour::Protocol { what };
        let limits = FrameLimits { sealed: self.limits.frame() };
        let frame = decode_exact::<Frame>(frame, &limits).map_err(|_| wrong("malformed"))?;
        let state = std::mem::replace(&mut self.state, State::Over);
        match (state, frame) {
            (State::Greeting | State::Opening { .. }, Frame::Refused(refusal)) => {
                Err(refusal.into())
            }
            (State::Greeting, Frame::Prekey(prekey)) => {
                let p = &self.purpose;
                prekey.verify(&p.chain, &p.node, now_ms)?;
                let (chain, query, model) = (p.chain, p.query, p.model);
                let (node, role, epoch) = (p.node, p.role, prekey.epoch);
                let binding = Binding { chain, query, model, node, role, epoch };
                let (plan, tokens) = (p.plan.clone(), p.max_tokens);
                let opening =
                    Opening::sign(key, &binding, (p.replica, p.salt), plan, tokens, p.choice);
                let sealed = Envelope::seal(&prekey, &binding, &opening.encode(), rng)
                    .map_err(|_| wrong("a prekey that cannot be sealed to"))?;
                let (sealer, opener) = (sealed.sealer, sealed.opener);
                self.state = State::Opening { sealer, opener };
                Ok(Event::Send(Frame::Open { binding, envelope: sealed.envelope }.encode()))
            }
            (State::Opening { sealer, mut opener }, Frame::Sealed(sealed)) => {
                match self.open(&mut opener, &sealed)? {
                    Response::Accept => {
                        self.state = State::Ready { sealer, opener };
                        Ok(Event::Ready)
                    }
                    Response::Refused(refusal) => Err(refusal.into()),
                    _ => Err(wrong("no acceptance")),
                }
            }
            (State::Ready { sealer, mut opener }, Frame::Sealed(sealed)) => {
                let event = match self.open(&mut opener, &sealed)? {
                    Response::Stepped(stepped) => self.stepped(stepped)?,
                    Response::Truncated { tokens } if self.truncating == Some(tokens) => {
                        self.truncating = None;
                        Event::Truncated
                    }
                    Response::Refused(refusal) => return Err(refusal.into()),
                    _ => return Err(wrong("an answer to no question")),
                };
                self.state = State::Ready { sealer, opener };
                Ok(event)
            }
            (State::Finishing { mut opener }, Frame::Sealed(sealed)) => {
                match self.open(&mut opener, &sealed)? {
                    Response::Commit(commitment) => {
                        let p = &self.purpose;
                        let Commitment { blinded_root, served_tokens, signature } = commitment;
                        let message =
                            commitment_message(&p.query, p.role, &blinded_root, served_tokens);
                        verify_strict(&p.node, COMMITMENT_TAG, &p.chain, &message, &signature)
                            .map_err(|_| wrong("a commitment with a bad signature"))?;
                        Ok(Event::Committed(commitment))
                    }
                    Response::Refused(refusal) => Err(refusal.into()),
                    _ => Err(wrong("no commitment")),
                }
            }
            _ => Err(wrong("a frame out of turn")),
        }
    }

    fn open(&self, opener: &mut Opener, sealed: &[u8]) -> Result<Response, Misbehaviour> {
        let wrong = |what| Misbehaviour::Protocol { what };
        let content = opener.open(sealed).map_err(|_| wrong("it does not open"))?;
        decode_exact(&content, &self.limits).map_err(|_| wrong("malformed under the seal"))
    }

    /// Checks the shape of an answer, and that its rows are what its digests name.
    fn stepped(&mut self, stepped: Stepped) -> Result<Event, Misbehaviour> {
        let wrong = |what| Misbehaviour::Protocol { what };
        let owed = self.owed.pop_front().filter(|owed| owed.seq == stepped.seq);
        let owed = owed.ok_or(wrong("an answer to another step"))?;
        let p = &self.purpose;
        let digests = if owed.want == Want::Last { 1 } else { owed.tokens };
        let tokens = if matches!(owed.want, Want::Last | Want::All) { digests } else { 0 };
        let width = p.d_model * 4;
        let rows = if owed.want == Want::Rows { owed.tokens * width } else { 0 };
        if (stepped.digests.len(), stepped.tokens.len(), stepped.rows.len())
            != (digests, tokens, rows)
        {
            return Err(wrong("an answer of another size"));
        }
        let layers = p.plan.layers(p.role.shard.into()).unwrap_or_default();
        for (row, bytes) in stepped.rows.chunks_exact(width).enumerate() {
            let name = row_digest(&p.model, layers.end, owed.position + row, bytes);
            if stepped.digests.get(row) != Some(&name) {
                return Err(Misbehaviour::Digest { seq: stepped.seq, row });
            }
        }
        Ok(Event::Stepped(stepped))
    }

    /// The frame of the next step; `None` unless steps may be sent.
    pub(crate) fn step(
        &mut self,
        input: Input,
        tokens: usize,
        want: Want,
        receipts: Vec<Signature>,
    ) -> Option<Bytes> {
        if self.truncating.is_some() {
            return None;
        }
        let (seq, position) = (self.next_seq, self.tokens);
        let frame = self.say(&Request::Step(Step { seq, position, input, want, receipts }))?;
        self.next_seq = seq.checked_add(1)?;
        self.tokens = position.checked_add(u32::try_from(tokens).ok()?)?;
        self.owed.push_back(Owed { seq, position: position as usize, tokens, want });
        Some(frame)
    }

    /// The frame that makes the node forget all but the first `tokens`; `None` unless steps may be
    /// sent and none is owed.
    pub fn truncate(&mut self, tokens: u32) -> Option<Bytes> {
        if !self.owed.is_empty() || self.truncating.is_some() || tokens > self.tokens {
            return None;
        }
        let frame = self.say(&Request::Truncate { tokens })?;
        self.truncating = Some(tokens);
        self.tokens = tokens;
        Some(frame)
    }

    /// The frame that pays; `None` unless the session stands.
    pub(crate) fn voucher(&mut self, voucher: ShardVoucher) -> Option<Bytes> {
        self.say(&Request::Voucher(voucher))
    }

    /// The frame that asks for the commitment; `None` unless the session stands and owes nothing.
    pub(crate) fn finish(&mut self, blind: Hash, end: Option<End>) -> Option<Bytes> {
        if !self.owed.is_empty() {
            return None;
        }
        let frame = self.say(&Request::Finish { blind, end })?;
        if let State::Ready { opener, .. } = std::mem::replace(&mut self.state, State::Over) {
            self.state = State::Finishing { opener };
        }
        Some(frame)
    }

    fn say(&mut self, request: &Request) -> Option<Bytes> {
        let State::Ready { sealer, .. } = &mut self.state else { return None };
        let sealed = sealer.seal(&request.encode()).ok()?;
        Some(Frame::Sealed(sealed).encode())
    }
}
