//! One client, one query, one shard.

use bytes::Bytes;
use commonware_codec::Encode as _;
use nesa_chain::{ShardVoucher, committee};
use nesa_crypto::{
    SecretKey, Signature,
    seal::{Opener, Role, Sealer},
};
use nesa_kernels::decoder::RESIDUAL_LIMIT;
use nesa_model::decoder::{DecoderModel, Feed, Input as Feeding, KvCache, Logits, Output, choose};
use nesa_primitives::{Hash, decode_exact, domain};
use nesa_trace::{End, Geometry, Trace, token_bits};

use super::{
    Asked, Canceller, Done, Given, Job, ServeError,
    ledger::{Ledger, Unpaid},
};
use crate::{
    MAX_STEP,
    activation::{from_bytes, logits_digest, row_digest, to_bytes},
    message::{
        COMMITMENT_TAG, Commitment, Frame, FrameLimits, Input, Limits, Refusal, Request, Response,
        Step, Stepped, Want, commitment_message,
    },
    opening::{Choice, Terms},
    receipts::Inputs,
};

/// A shard of one sequence, served to one client.
pub struct Session {
    terms: Terms,
    model: DecoderModel,
    key: SecretKey,
    choice: Choice,
    /// The replica whose place this node takes, and the word for it.
    replica: u8,
    admission: Option<Signature>,
    /// Tokens that the sequence may hold.
    max_tokens: usize,
    limits: Limits,
    sealer: Sealer,
    opener: Opener,
    /// Absent while a job has it.
    cache: Option<KvCache>,
    working: Option<Working>,
    next_seq: u32,
    ledger: Ledger,
    /// What the node commits to; absent while a job has it.
    trace: Option<Trace>,
    /// With consent to disclosure, where the inputs belong, and those that were not taken yet.
    inputs: Option<Inputs>,
    given: Vec<Given>,
    /// The client's word that it asks for no more.
    end: Option<End>,
    cancel: Canceller,
    over: bool,
}

/// The step that a job computes.
struct Working {
    seq: u32,
    position: usize,
    tokens: usize,
    want: Want,
}

/// What a session does with a message.
#[derive(Debug)]
pub enum Received {
    /// Nothing to send.
    Quiet,
    /// To be sent.
    Reply(Bytes),
    /// To be computed with [`super::run`] and given back to [`Session::complete`].
    Work(Job),
    /// To be sent; the session is over.
    Finished {
        /// The commitment.
        reply: Bytes,
        /// What goes on chain.
        outcome: Box<Outcome>,
    },
}

/// What a session leaves behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The replica whose place was taken.
    pub replica: u8,
    /// For a spare, the client's word for that.
    pub admission: Option<Signature>,
    /// Root of the trace of all that was computed.
    pub root: Hash,
    /// What it is blinded with.
    pub blind: Hash,
    /// The commitment.
    pub blinded_root: Hash,
    /// Tokens served.
    pub served_tokens: u32,
    /// The largest running total.
    pub voucher: Option<ShardVoucher>,
}

impl Session {
    /// Begins a session whose terms the node has proven. `model` is the shard that the opening's plan
    /// gives to the role. Returns the accepting frame too.
    ///
    /// # Errors
    /// [`ServeError::Opening`] when the client asks for something else than the terms.
    pub fn start(
        asked: Asked,
        terms: Terms,
        model: DecoderModel,
        key: SecretKey,
    ) -> Result<(Self, Bytes), ServeError> {
        let wrong = |what| ServeError::Opening { what };
        let Asked { binding, opening, sealer, opener } = asked;
        let b = (binding.chain, binding.query, binding.model, binding.role);
        if b != (terms.chain, terms.query, terms.model, terms.role) {
            return Err(wrong("another query or role"));
        }
        opening.verify(&terms.client_key, &binding).map_err(|_| wrong("the signature"))?;
        let (replica, seat) = (opening.replica, terms.role.seat);
        if replica >= terms.replicas || (seat < terms.replicas && seat != replica) {
            return Err(wrong("the place"));
        }
        let layers = opening.plan.layers(terms.role.shard.into());
        let inner = opening.plan.cuts().get(1..opening.plan.len());
        let whole = usize::from(model.config().layers);
        if inner != Some(&terms.cuts[..]) || opening.plan.end() != whole {
            return Err(wrong("the plan"));
        }
        if layers != Some(model.layers()) || model.digest() != terms.model || !model.has_weights() {
            return Err(wrong("the layers"));
        }
        let range = model.layers();
        let geometry = Geometry::of(model.config(), range.start as u16..range.end as u16);
        let trace = Trace::new(geometry.map_err(|_| wrong("the layers"))?, opening.salt);
        let inputs = terms.disclose.then_some(Inputs {
            chain: terms.chain,
            query: terms.query,
            model: terms.model,
            client_key: terms.client_key,
            shard: terms.role.shard,
            salt: opening.salt,
        });
        let context = model.config().max_tokens;
        if opening.max_tokens == 0 || opening.max_tokens > context.min(terms.max_tokens) {
            return Err(wrong("the length"));
        }
        let mut session = Self {
            ledger: Ledger::new(&terms),
            terms,
            key,
            choice: opening.choice,
            replica,
            admission: opening.admission,
            max_tokens: opening.max_tokens as usize,
            limits: Limits::of_width(model.config().d_model as usize),
            model,
            sealer,
            opener,
            cache: Some(KvCache::new()),
            working: None,
            next_seq: 0,
            trace: Some(trace),
            inputs,
            given: Vec::new(),
            end: None,
            cancel: Canceller::default(),
            over: false,
        };
        let accept = session.say(&Response::Accept).ok_or(wrong("the keys"))?;
        Ok((session, accept))
    }

    /// Takes the client's next frame. After an error the session is over: send [`Session::refuse`].
    ///
    /// # Errors
    /// [`ServeError`].
    pub fn receive(&mut self, frame: &[u8]) -> Result<Received, ServeError> {
        if self.over || self.working.is_some() {
            self.over = true;
            return Err(ServeError::Order);
        }
        let received = self.handle(frame);
        self.over |= received.is_err();
        received
    }

    fn handle(&mut self, frame: &[u8]) -> Result<Received, ServeError> {
        let limits = FrameLimits { sealed: self.limits.frame() };
        let Ok(Frame::Sealed(sealed)) = decode_exact::<Frame>(frame, &limits) else {
            return Err(ServeError::Malformed);
        };
        let content = self.opener.open(&sealed).map_err(|_| ServeError::Sealed)?;
        let request = decode_exact::<Request>(&content, &self.limits);
        match request.map_err(|_| ServeError::Malformed)? {
            Request::Step(step) => self.step(step),
            Request::Truncate { tokens } if self.inputs.is_some() => {
                Err(ServeError::Edit { tokens })
            }
            Request::Truncate { tokens } => {
                let cache = self.cache.as_mut().ok_or(ServeError::Order)?;
                let held = cache.len();
                let error = ServeError::Truncate { got: tokens, held };
                cache.truncate(tokens as usize).map_err(|_| error)?;
                self.trace.as_mut().ok_or(ServeError::Order)?.truncate(tokens as usize);
                self.reply(&Response::Truncated { tokens })
            }
            Request::Voucher(voucher) => {
                let ours = (voucher.query, voucher.node) == (self.terms.query, self.key.public())
                    && (voucher.shard, voucher.replica) == (self.terms.role.shard, self.replica);
                let signed = voucher.verify(&self.terms.client_key, &self.terms.chain);
                if !ours || signed.is_err() {
                    return Err(ServeError::Voucher);
                }
                self.ledger.credit(voucher);
                Ok(Received::Quiet)
            }
            Request::Finish { blind, end } => {
                if let Some(inputs) = &self.inputs {
                    let held = self.cache.as_ref().ok_or(ServeError::Order)?.len();
                    self.end = end.filter(|end| inputs.verify_end(end, held));
                    if self.end.is_none() {
                        return Err(ServeError::End { held });
                    }
                }
                let outcome = self.outcome(&blind).ok_or(ServeError::Order)?;
                let Outcome { blinded_root, served_tokens, .. } = outcome.clone();
                let Terms { chain, query, role, .. } = &self.terms;
                let message = commitment_message(query, *role, &blinded_root, served_tokens);
                let signature = self.key.sign(COMMITMENT_TAG, chain, &message);
                let commitment = Commitment { blinded_root, served_tokens, signature };
                let reply = self.say(&Response::Commit(commitment)).ok_or(ServeError::Order)?;
                self.over = true;
                Ok(Received::Finished { reply, outcome: Box::new(outcome) })
            }
        }
    }

    fn step(&mut self, step: Step) -> Result<Received, ServeError> {
        let Step { seq, position, input, want, receipts } = step;
        let wrong = |what| ServeError::Step { seq, what };
        let last = self.model.gives_logits();
        if seq != self.next_seq {
            return Err(wrong("another number is next"));
        }
        if matches!(want, Want::Last | Want::All) != last {
            return Err(wrong("this shard does not give that"));
        }
        let c = *self.model.config();
        let held = self.cache.as_ref().ok_or(ServeError::Order)?.len();
        if position as usize != held {
            return Err(wrong("the cache holds another number of tokens"));
        }
        let given = self.inputs.is_some().then(|| input.clone());
        let (tokens, input) = match input {
            Input::Tokens(tokens) if self.model.takes_tokens() => {
                if tokens.iter().any(|token| *token >= c.vocab) {
                    return Err(wrong("a token outside the vocabulary"));
                }
                (tokens.len(), Feeding::Tokens(tokens))
            }
            Input::Rows(rows) if !self.model.takes_tokens() => {
                let rows = from_bytes(&rows).ok_or(wrong("half a value"))?;
                if !rows.len().is_multiple_of(c.d_model as usize) {
                    return Err(wrong("rows of another width"));
                }
                if rows.iter().any(|v| v.unsigned_abs() > RESIDUAL_LIMIT as u32) {
                    return Err(wrong("a value out of range"));
                }
                (rows.len() / c.d_model as usize, Feeding::Hidden(rows))
            }
            _ => return Err(wrong("tokens where rows are taken, or rows for tokens")),
        };
        if tokens == 0 || tokens > MAX_STEP || held.saturating_add(tokens) > self.max_tokens {
            return Err(wrong("no token, or too many"));
        }
        self.ledger.begin(tokens as u32).map_err(|Unpaid| ServeError::Unpaid {
            served: self.ledger.served(),
            paid: self.ledger.paid(),
        })?;
        self.next_seq = seq.checked_add(1).ok_or(wrong("the numbers are used up"))?;
        if let Some((inputs, input)) = self.inputs.zip(given) {
            if !inputs.verify(&receipts, &input, position, c.d_model as usize, want) {
                return Err(ServeError::Receipt { seq });
            }
            let every = want == Want::All;
            self.given.push(Given { position, input, every, receipts });
        }
        let cache = self.cache.take().ok_or(ServeError::Order)?;
        let trace = self.trace.take().ok_or(ServeError::Order)?;
        let logits = if want == Want::All { Logits::All } else { Logits::Last };
        self.working = Some(Working { seq, position: held, tokens, want });
        let feed = Feed { cache, input, logits };
        Ok(Received::Work(Job { seq, feed, trace, tokens, cancel: self.cancel.clone() }))
    }

    /// Takes a computed step back; the frame to send. `None` when it was cancelled, is another step,
    /// or could not be computed: the session is over then.
    pub fn complete(&mut self, done: Done) -> Option<Bytes> {
        let working = self.working.take().filter(|working| working.seq == done.seq);
        let reply = working.zip(done.fed).and_then(|(working, (fed, trace))| {
            self.cache = Some(fed.cache);
            self.trace = Some(trace);
            let stepped = self.stepped(&working, fed.output)?;
            self.say(&Response::Stepped(stepped))
        });
        self.over |= reply.is_none();
        reply
    }

    fn stepped(&self, working: &Working, output: Output) -> Option<Stepped> {
        let Working { seq, position, tokens, want } = *working;
        let c = self.model.config();
        let model = self.model.digest();
        match output {
            Output::Hidden(values) => {
                let bytes = to_bytes(&values);
                let rows = bytes.chunks_exact(c.d_model as usize * 4).enumerate();
                let end = self.model.layers().end;
                let digests = rows.map(|(i, row)| row_digest(&model, end, position + i, row));
                let digests = digests.collect();
                let rows = if want == Want::Rows { bytes } else { Bytes::new() };
                Some(Stepped { seq, digests, tokens: Vec::new(), rows })
            }
            Output::Logits(values) => {
                let rows = values.chunks_exact(c.vocab as usize);
                let first = position + tokens + 1 - rows.len();
                let (mut digests, mut chosen) = (Vec::new(), Vec::new());
                let Choice { seed, .. } = &self.choice;
                for (i, row) in rows.enumerate() {
                    let at = first + i;
                    let token = choose(&self.model, row, &self.choice.sampling(), seed, at)?;
                    digests.push(logits_digest(&model, at, row, token));
                    chosen.push(token);
                }
                Some(Stepped { seq, digests, tokens: chosen, rows: Bytes::new() })
            }
        }
    }

    /// The frame that tells the client why the session ends.
    pub fn refuse(&mut self, refusal: Refusal) -> Option<Bytes> {
        self.over = true;
        self.say(&Response::Refused(refusal))
    }

    /// What to commit to when the session ends without `Finish`, if anything was served and paid for:
    /// under a blind that the node alone can derive again.
    pub fn abandon(&mut self) -> Option<Outcome> {
        self.over = true;
        self.checkpoint()
    }

    /// [`Session::abandon`]'s outcome as it is now, for a node that writes it down before it goes on.
    pub fn checkpoint(&self) -> Option<Outcome> {
        let mut hasher = domain("shard blind", &self.terms.chain);
        hasher.update(self.key.seed().as_ref());
        hasher.update(&self.terms.query.0);
        let blind: Hash = hasher.finalize().into();
        if self.ledger.served() == 0 {
            return None;
        }
        self.outcome(&blind)
    }

    /// What the client gave since the last call: with consent to disclosure a node keeps it until no
    /// dispute can ask for it. Empty without.
    pub fn take_given(&mut self) -> Vec<Given> {
        std::mem::take(&mut self.given)
    }

    /// The client's word that it asked for no more, since the last call.
    pub fn take_end(&mut self) -> Option<End> {
        self.end.take()
    }

    /// What inputs and the trace of this query are salted with; with consent to disclosure.
    pub fn salt(&self) -> Option<Hash> {
        self.inputs.map(|inputs| inputs.salt)
    }

    /// The largest running total received so far.
    pub fn latest_voucher(&self) -> Option<&ShardVoucher> {
        self.ledger.voucher()
    }

    /// Stops what a job of this session computes, from any thread.
    pub fn canceller(&self) -> Canceller {
        self.cancel.clone()
    }

    /// The largest frame that the client may send, bytes.
    pub fn max_frame(&self) -> usize {
        self.limits.frame()
    }

    /// Tokens that the cache may come to hold.
    pub fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    /// The part played.
    pub fn role(&self) -> Role {
        self.terms.role
    }

    /// Whether nothing more is taken.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// Root of the trace: equal for nodes that computed the same in one query.
    fn root(&self) -> Option<Hash> {
        Some(self.trace.as_ref()?.root(token_bits(self.terms.max_tokens)))
    }

    /// `None` while a job has the trace.
    fn outcome(&self, blind: &Hash) -> Option<Outcome> {
        let Terms { chain, query, role, .. } = &self.terms;
        let root = self.root()?;
        let place = (role.shard, self.replica);
        Some(Outcome {
            replica: self.replica,
            admission: self.admission,
            root,
            blind: *blind,
            blinded_root: committee::blind(chain, query, place, &root, blind),
            served_tokens: self.ledger.served(),
            voucher: self.ledger.voucher().cloned(),
        })
    }

    fn reply(&mut self, response: &Response) -> Result<Received, ServeError> {
        self.say(response).map(Received::Reply).ok_or(ServeError::Order)
    }

    fn say(&mut self, response: &Response) -> Option<Bytes> {
        let sealed = self.sealer.seal(&response.encode()).ok()?;
        Some(Frame::Sealed(sealed).encode())
    }
}

#[cfg(test)]
impl Session {
    /// [`Session::complete`] with an answer that was tampered with.
    pub(crate) fn forge(&mut self, done: Done, bend: impl FnOnce(&mut Stepped)) -> Bytes {
        let (working, (fed, trace)) = self.working.take().zip(done.fed).unwrap();
        self.cache = Some(fed.cache);
        self.trace = Some(trace);
        let mut stepped = self.stepped(&working, fed.output).unwrap();
        bend(&mut stepped);
        self.say(&Response::Stepped(stepped)).unwrap()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}
