//! One shard of a query: what it was fed, what it gave, and the replicas that must agree on it.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use nesa_crypto::{Signature, seal::Role};
use nesa_primitives::{Amount, Hash};

use super::{
    session::Session,
    terms::{Candidate, Dispute},
};
use crate::{
    MAX_STEP,
    message::{Commitment, Input, Stepped, Want},
};

/// Steps of one replica on their way at once.
const WINDOW: usize = 4;

/// One step as a shard is fed it: kept for a replacement until the query ends.
pub(super) struct Fed {
    pub(super) input: Input,
    pub(super) tokens: usize,
    /// The client's word for each token, with consent to disclosure.
    pub(super) receipts: Vec<Signature>,
}

/// What the first replica to answer a step said.
pub(super) struct Known {
    digests: Vec<Hash>,
    /// Of the last shard: the token that follows.
    pub(super) token: Option<u32>,
}

pub(super) struct Replica {
    /// The candidate's number.
    pub(super) index: u8,
    /// The replica whose place it takes.
    pub(super) place: u8,
    /// What its commitment is blinded with.
    pub(super) blind: Hash,
    pub(super) candidate: Candidate,
    pub(super) session: Session,
    /// Steps sent.
    pub(super) sent: usize,
    /// Steps answered as the others did.
    pub(super) answered: usize,
    /// First step and number of steps of each message that is not answered.
    owed: VecDeque<(usize, usize)>,
    pub(super) paid: Amount,
    pub(super) commitment: Option<Commitment>,
    /// Nothing more is expected of it.
    pub(super) done: bool,
}

impl Replica {
    pub(super) fn new(
        index: u8,
        place: u8,
        blind: Hash,
        candidate: Candidate,
        session: Session,
    ) -> Self {
        Self {
            index,
            place,
            blind,
            candidate,
            session,
            sent: 0,
            answered: 0,
            owed: VecDeque::new(),
            paid: Amount::ZERO,
            commitment: None,
            done: false,
        }
    }
}

/// A shard and its replicas.
pub(super) struct Shard {
    pub(super) index: u8,
    last: bool,
    row_bytes: usize,
    pub(super) fed: Vec<Fed>,
    pub(super) known: Vec<Known>,
    pub(super) replicas: Vec<Replica>,
    /// Candidates not asked yet, with their numbers.
    pub(super) spares: VecDeque<(u8, Candidate)>,
    /// Steps on which as many replicas as were asked for agree.
    pub(super) confirmed: usize,
    /// Steps that some replica was sent, also one that is lost by now.
    reached: usize,
}

/// What an answer brought: rows for the next shard, or tokens.
#[derive(Default)]
pub(super) struct News {
    /// Results of steps that nobody had answered before, in order: rows and their number of tokens.
    pub(super) rows: Vec<(Bytes, usize)>,
    /// Steps that nobody had answered before.
    pub(super) steps: std::ops::Range<usize>,
}

/// An answer that differs from another replica's.
pub(super) enum Odd {
    Differs(Box<Dispute>),
    /// No answer to what was asked; never after a session's own checks.
    Unasked,
}

impl Shard {
    pub(super) fn new(index: u8, last: bool, d_model: usize) -> Self {
        Self {
            index,
            last,
            row_bytes: d_model * 4,
            fed: Vec::new(),
            known: Vec::new(),
            replicas: Vec::new(),
            spares: VecDeque::new(),
            confirmed: 0,
            reached: 0,
        }
    }

    pub(super) fn role(&self, seat: u8) -> Role {
        Role { shard: self.index, seat }
    }

    pub(super) fn replica(&mut self, index: u8) -> Option<&mut Replica> {
        self.replicas.iter_mut().find(|replica| replica.index == index)
    }

    /// The next frame for a replica, if there is anything to send before step `end`. Steps of one token that are there
    /// already go together: that is how a replacement catches up in few passes.
    pub(super) fn pump(&mut self, index: u8, next_has: usize, end: usize) -> Option<Bytes> {
        let (fed, last) = (self.fed.get(..end).unwrap_or(&self.fed), self.last);
        let replica = self.replicas.iter_mut().find(|replica| replica.index == index)?;
        if !replica.session.is_ready() || replica.owed.len() >= WINDOW || replica.done {
            return None;
        }
        let first = replica.sent;
        let single = |step: usize| fed.get(step).is_some_and(|fed| fed.tokens == 1);
        let mut count = usize::from(first < fed.len());
        if single(first) {
            while count < MAX_STEP && single(first + count) {
                count += 1;
            }
        }
        let steps = fed.get(first..first + count).filter(|steps| !steps.is_empty())?;
        let want = match (last, count) {
            (true, 1) => Want::Last,
            (true, _) => Want::All,
            (false, _) if first + count > next_has => Want::Rows,
            (false, _) => Want::Digests,
        };
        let tokens = steps.iter().map(|step| step.tokens).sum();
        let receipts = steps.iter().flat_map(|step| step.receipts.iter().copied()).collect();
        let frame = replica.session.step(join(steps), tokens, want, receipts)?;
        replica.sent += count;
        self.reached = self.reached.max(replica.sent);
        replica.owed.push_back((first, count));
        Some(frame)
    }

    /// Takes a replica's answer: what is new in it, or with whom it disagrees.
    pub(super) fn take(&mut self, index: u8, stepped: &Stepped) -> Result<News, Odd> {
        let (last, width) = (self.last, self.row_bytes);
        let at = self.replicas.iter().position(|r| r.index == index).ok_or(Odd::Unasked)?;
        let (first, count) = self.replicas[at].owed.pop_front().ok_or(Odd::Unasked)?;
        let mut news = News { rows: Vec::new(), steps: self.known.len()..self.known.len() };
        let (mut row, mut digest) = (0, 0);
        for (i, step) in (first..first + count).enumerate() {
            let tokens = self.fed.get(step).ok_or(Odd::Unasked)?.tokens;
            let digests = if last { 1 } else { tokens };
            let mine = stepped.digests.get(digest..digest + digests).ok_or(Odd::Unasked)?;
            let token = stepped.tokens.get(i).copied();
            match self.known.get(step) {
                Some(known) if known.digests == mine && known.token == token => {}
                Some(known) => {
                    let differs = known.digests.iter().zip(mine).position(|(a, b)| a != b);
                    let place = differs.unwrap_or_default();
                    let node = self.replicas[at].candidate.node;
                    return Err(Odd::Differs(Box::new(Dispute {
                        shard: self.index,
                        step,
                        row: place,
                        node,
                        said: mine.get(place).copied().unwrap_or_default(),
                        others: known.digests.get(place).copied().unwrap_or_default(),
                    })));
                }
                None => {
                    self.known.push(Known { digests: mine.to_vec(), token });
                    news.steps.end += 1;
                    if !last {
                        let bytes = stepped.rows.slice(row..(row + tokens * width));
                        news.rows.push((bytes, tokens));
                    }
                }
            }
            digest += digests;
            row = (row + tokens * width).min(stepped.rows.len());
        }
        self.replicas[at].answered = first + count;
        Ok(news)
    }

    /// Counts agreement anew; tokens of the steps agreed on.
    pub(super) fn confirm(&mut self, replicas: usize) -> usize {
        if self.replicas.len() >= replicas {
            let least = self.replicas.iter().map(|r| r.answered).min().unwrap_or_default();
            self.confirmed = self.confirmed.max(least);
        }
        self.confirmed
    }

    /// Steps that the furthest replica was sent. One that is lost counts: it may hold receipts, and may
    /// commit to what it has.
    pub(super) const fn furthest(&self) -> usize {
        self.reached
    }

    /// What is asked of a step by itself.
    pub(super) const fn want(&self) -> Want {
        if self.last { Want::Last } else { Want::Rows }
    }

    /// Tokens of the first `steps` steps.
    pub(super) fn tokens(&self, steps: usize) -> usize {
        self.fed.iter().take(steps).map(|fed| fed.tokens).sum()
    }
}

/// Several steps' inputs as one.
fn join(steps: &[Fed]) -> Input {
    if let [one] = steps {
        return one.input.clone();
    }
    let (mut tokens, mut rows) = (Vec::new(), BytesMut::new());
    for step in steps {
        match &step.input {
            Input::Tokens(more) => tokens.extend_from_slice(more),
            Input::Rows(more) => rows.extend_from_slice(more),
        }
    }
    if rows.is_empty() { Input::Tokens(tokens) } else { Input::Rows(rows.freeze()) }
}
