//! The server's state machine.

use bytes::Bytes;
use commonware_codec::Encode;
use nesa_chain::{Side, Voucher};
use nesa_crypto::sign::SecretKey;
use nesa_primitives::{Address, Amount, DecodeError, Hash};
use thiserror::Error;

use super::{
    job::{Done, Job, Kind},
    ledger::{Ledger, Unpaid},
};
use crate::{
    commitment, message,
    message::{
        ClientMessage, Limits, Open, Product, Refusal, Request, ServerMessage, SignedCommit, Slot,
        Statement,
    },
    signing,
    spec::{self, Lane, MAX_PASS_TOKENS},
};

/// How often one slot may be asked for: once, and again with a new mask after each replacement on
/// the other side or a discarded preparation.
const MAX_REQUESTS_PER_SLOT: u8 = 4;

/// How often a client may ask for full products in one query.
const MAX_BLAMES: u8 = 8;

/// What the chain says about the query, as the node's own light client has checked it.
#[derive(Debug, Clone)]
pub struct Terms {
    /// The chain, as the digest of its trust root.
    pub chain: Hash,
    /// The query.
    pub query: Hash,
    /// The model it pays for.
    pub model: Hash,
    /// The key that signs openings and vouchers.
    pub client_key: Address,
    /// The part this node was drawn for.
    pub side: Side,
    /// Which candidate of that side it is.
    pub attempt: u8,
    /// Paid to this node for each padded token.
    pub price_per_token: Amount,
    /// The most this node may earn from the escrow.
    pub budget: Amount,
    /// Padded tokens the query may use.
    pub max_tokens: u32,
}

/// Why a client's message was refused. After any of these the session is over.
#[derive(Debug, Error)]
pub enum ServeError {
    /// Not a message, or not its canonical form.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// `Open` did not come first, or came twice.
    #[error("messages out of order")]
    Order,
    /// `Open` names another query, model, node, side or attempt, or is not signed by the client.
    #[error("the opening is not for this node and query")]
    Open,
    /// A share to B, a seed to A, an unknown stage, an impossible slot or a wrong length.
    #[error("the request does not fit {0:?}")]
    Request(Slot),
    /// A slot asked for too often.
    #[error("{0:?} was asked for too often")]
    Repeated(Slot),
    /// Full products asked for too often, or of a share that was never answered in this pass.
    #[error("no blame is due at {0:?}")]
    Blame(Slot),
    /// A voucher for another query or node, or not signed by the client.
    #[error("the voucher is not for this node and query")]
    Voucher,
    /// The last pass is unpaid, or the escrow cannot pay the next.
    #[error("pass {0} is not paid for")]
    Unpaid(u32),
    /// The session is over.
    #[error("the session is over")]
    Closed,
}

impl ServeError {
    /// What the client is told before the stream closes.
    pub const fn refusal(&self) -> Refusal {
        match self {
            Self::Open => Refusal::NotDrawn,
            Self::Unpaid(_) => Refusal::Unpaid,
            _ => Refusal::Protocol,
        }
    }
}

/// What a message leads to.
pub enum Received {
    /// Send these bytes.
    Reply(Bytes),
    /// Run the job, hand it to [`Session::complete`], send what that returns. Answers go out in
    /// the order of their requests.
    Work(Job),
    /// Nothing to send.
    Quiet,
    /// Send the reply, then submit the outcome's transactions and close.
    Finished {
        /// The signed commitment for the client.
        reply: Bytes,
        /// What goes on chain.
        outcome: Outcome,
    },
}

/// What a node submits when a session ends: its blinded commitment, and its claim if it was paid.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// H(blind ‖ root).
    pub blinded_root: Hash,
    /// Padded tokens of the passes it took part in.
    pub served_tokens: u32,
    /// The largest running total.
    pub voucher: Option<Voucher>,
}

/// The pass being served.
struct Pass {
    number: u32,
    tokens: u32,
    /// Requests so far, `[stages, parts]`.
    requests: Vec<u8>,
    /// Requests answered, by digest: what blame may be asked for.
    answered: Vec<Hash>,
}

/// One (query, side) as a server sees it. Holds no share and no product.
pub struct Session {
    terms: Terms,
    lane: Lane,
    key: SecretKey,
    limits: Limits,
    opened: bool,
    closed: bool,
    ledger: Ledger,
    pass: Option<Pass>,
    blames: u8,
    /// One leaf digest for each answer.
    leaves: Vec<Hash>,
}

impl Session {
    /// A session that waits for its `Open`.
    pub fn new(terms: Terms, lane: Lane, key: SecretKey) -> Self {
        let limits = Limits { payload: lane.max_message() };
        let ledger = Ledger::new(terms.price_per_token, terms.budget, terms.max_tokens);
        Self {
            terms,
            lane,
            key,
            limits,
            opened: false,
            closed: false,
            ledger,
            pass: None,
            blames: 0,
            leaves: Vec::new(),
        }
    }

    /// Takes one message.
    ///
    /// # Errors
    /// [`ServeError`] when the client breaks the protocol or has not paid. The session is then
    /// over: send [`ServeError::refusal`] through [`refuse`], close, and submit
    /// [`Session::abandon`]'s outcome.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<Received, ServeError> {
        if self.closed {
            return Err(ServeError::Closed);
        }
        let received = self.handle(bytes);
        if received.is_err() {
            self.closed = true;
        }
        received
    }

    fn handle(&mut self, bytes: &[u8]) -> Result<Received, ServeError> {
        let message = message::decode_client(bytes, &self.limits)?;
        match message {
            ClientMessage::Open(open) if !self.opened => self.open(&open),
            _ if !self.opened => Err(ServeError::Order),
            ClientMessage::Open(_) => Err(ServeError::Order),
            ClientMessage::Work(request) => self.work(&request),
            ClientMessage::Blame(request) => self.blame(&request),
            ClientMessage::Voucher(voucher) => self.voucher(voucher),
            ClientMessage::Finish { blind } => {
                self.closed = true;
                let commit = self.commit(&blind);
                let outcome = self.outcome(commit.blinded_root);
                Ok(Received::Finished { reply: ServerMessage::Commit(commit).encode(), outcome })
            }
        }
    }

    fn open(&mut self, open: &Open) -> Result<Received, ServeError> {
        let t = &self.terms;
        let expected = (t.chain, t.query, t.model, self.key.public(), t.side, t.attempt);
        let got = (open.chain, open.query, open.model, open.node, open.side, open.attempt);
        if got != expected || !signing::open_is_signed(open, &t.client_key) {
            return Err(ServeError::Open);
        }
        self.opened = true;
        Ok(Received::Reply(ServerMessage::Accept.encode()))
    }

    fn work(&mut self, request: &Request) -> Result<Received, ServeError> {
        let slot = request.slot();
        let (index, job) = self.job(request, Kind::Product)?;
        self.enter(slot)?;
        let Some(pass) = &mut self.pass else { return Err(ServeError::Request(slot)) };
        let parts = spec::parts(pass.tokens) as usize;
        let count = &mut pass.requests[index * parts + slot.part as usize];
        if *count >= MAX_REQUESTS_PER_SLOT {
            return Err(ServeError::Repeated(slot));
        }
        *count += 1;
        pass.answered.push(job.request);
        Ok(Received::Work(job))
    }

    /// The job of a request that fits its stage and this node's side.
    fn job(&self, request: &Request, kind: Kind) -> Result<(usize, Job), ServeError> {
        let slot = request.slot();
        let wrong = ServeError::Request(slot);
        let side_fits = matches!(
            (request, self.terms.side),
            (Request::Share { .. }, Side::A) | (Request::Seed { .. }, Side::B)
        );
        let Some((index, stage)) = self.lane.find(slot.stage) else { return Err(wrong) };
        let in_limits = (1..=MAX_PASS_TOKENS).contains(&slot.tokens) && slot.rows() > 0;
        if !side_fits || !in_limits || !request.fits(stage) {
            return Err(wrong);
        }
        let digest = request.digest(&self.terms.chain);
        let job = Job::new(request, *stage, kind, digest).ok_or(wrong)?;
        Ok((index, job))
    }

    /// Makes the slot's pass the current one, if it is paid for. Passes never go back.
    fn enter(&mut self, slot: Slot) -> Result<(), ServeError> {
        if let Some(pass) = &self.pass {
            if pass.number == slot.pass && pass.tokens == slot.tokens {
                return Ok(());
            }
            if pass.number >= slot.pass {
                return Err(ServeError::Request(slot));
            }
        }
        self.ledger.begin(slot.tokens).map_err(|Unpaid| ServeError::Unpaid(slot.pass))?;
        let slots = self.lane.stages().len() * spec::parts(slot.tokens) as usize;
        self.pass = Some(Pass {
            number: slot.pass,
            tokens: slot.tokens,
            requests: vec![0; slots],
            answered: Vec::new(),
        });
        Ok(())
    }

    fn blame(&mut self, request: &Request) -> Result<Received, ServeError> {
        let slot = request.slot();
        let (_, job) = self.job(request, Kind::Full)?;
        let known = self.pass.as_ref().is_some_and(|p| p.answered.contains(&job.request));
        if !known || self.blames >= MAX_BLAMES {
            return Err(ServeError::Blame(slot));
        }
        self.blames += 1;
        Ok(Received::Work(job))
    }

    fn voucher(&mut self, voucher: Voucher) -> Result<Received, ServeError> {
        let t = &self.terms;
        let ours = voucher.query == t.query && voucher.node == self.key.public();
        if !ours || !signing::voucher_is_signed(&voucher, &t.chain, &t.client_key) {
            return Err(ServeError::Voucher);
        }
        self.ledger.credit(voucher);
        Ok(Received::Quiet)
    }

    /// Packs and signs a product, and notes the digest of what it said.
    pub fn complete(&mut self, done: Done) -> Bytes {
        let values = done.pack();
        let slot = done.slot;
        if done.kind == Kind::Full {
            return ServerMessage::Full { slot, values }.encode();
        }
        let statement = Statement {
            query: self.terms.query,
            side: self.terms.side,
            attempt: self.terms.attempt,
            slot,
            request: done.request,
            product: Statement::product_digest(&self.terms.chain, &values),
        };
        self.leaves.push(statement.leaf());
        let signature = signing::sign_statement(&statement, &self.terms.chain, &self.key);
        ServerMessage::Product(Product { slot, values, signature }).encode()
    }

    fn commit(&self, blind: &Hash) -> SignedCommit {
        let root = commitment::blinded_root(&self.terms.chain, blind, &self.leaves);
        let t = &self.terms;
        signing::sign_commit(
            t.chain,
            t.query,
            t.side,
            t.attempt,
            root,
            self.ledger.served_tokens(),
            &self.key,
        )
    }

    fn outcome(&self, blinded_root: Hash) -> Outcome {
        Outcome {
            blinded_root,
            served_tokens: self.ledger.served_tokens(),
            voucher: self.ledger.voucher().cloned(),
        }
    }

    /// Ends a session whose client left without `Finish`: the outcome to submit, if anything was
    /// served.
    pub fn abandon(&mut self) -> Option<Outcome> {
        self.closed = true;
        self.checkpoint()
    }

    /// The outcome to submit if the session ended now without `Finish`, if anything was served: a
    /// commitment to the answers given so far, under the node's [`own_blind`].
    ///
    /// A node writes it down with each voucher before it goes on, so that what it commits to after
    /// a kill opens to answers that it gave and was paid for.
    pub fn checkpoint(&self) -> Option<Outcome> {
        let t = &self.terms;
        let blind = own_blind(&self.key, &t.chain, &t.query);
        (self.ledger.served_tokens() > 0).then(|| self.outcome(self.commit(&blind).blinded_root))
    }

    /// The largest running total received so far, for a node that writes it down before it goes on.
    pub fn latest_voucher(&self) -> Option<&Voucher> {
        self.ledger.voucher()
    }

    /// What the query may still be told: padded tokens served, and the total paid.
    pub fn account(&self) -> (u32, Amount) {
        (self.ledger.served_tokens(), self.ledger.paid())
    }

    /// The largest message the client may send, in bytes.
    pub const fn max_message(&self) -> usize {
        self.limits.payload
    }
}

/// The blind of a commitment for which the client has sent none, 32 bytes that nobody without the
/// node key can tell from random ones. The node can derive it again at any time, and so open what it
/// committed to, without keeping the blind anywhere.
pub fn own_blind(node: &SecretKey, chain: &Hash, query: &Hash) -> Hash {
    // Signatures of ed25519 are deterministic, and no other signature is made under this tag.
    let signature = node.sign("masked own blind", chain, &query.0);
    Hash::of_bytes("masked own blind", chain, &signature.0)
}

/// The last message of a stream that is refused.
pub fn refuse(refusal: Refusal) -> Bytes {
    ServerMessage::Refused(refusal).encode()
}
