//! Opening a query: every message of it, and the check that a stranger runs over them.
//!
//! Exists only with the user's explicit consent, since it contains the prompt. The verifier draws
//! its own r, derives its own s from hash-checked weights, and repeats every check of the client:
//! that the shares sent were those of the claimed input under the claimed seeds, that the named
//! nodes signed these answers to these requests, and that the answers are right.

use std::collections::VecDeque;

use bytes::{BufMut, Bytes};
use commonware_codec::{Buf, EncodeSize, Error, Read, ReadExt, Write};
use nesa_chain::Side;
use nesa_crypto::sign::Signature;
use nesa_primitives::{Address, Hash};
use thiserror::Error as ThisError;

use crate::{
    client::{Link, Pass},
    freivalds,
    message::{Limits, Request, SeedBytes, Slot, Statement},
    pack,
    preparation::Preparation,
    run::{Run, RunStep},
    share, signing,
    spec::{self, Lane, MAX_PASS_TOKENS},
};

/// A packed product with its server's signature.
#[derive(Clone, PartialEq, Eq)]
pub struct SignedProduct {
    /// Who gave it.
    pub link: Link,
    /// Digest of the request it answers.
    pub request: Hash,
    /// `rows × n` values of k bits, packed.
    pub values: Bytes,
    /// Over the [`Statement`].
    pub signature: Signature,
}

/// One verified message in the open: with the model and the prompt it shows what each server was
/// asked and what it answered. It reveals the prompt.
#[derive(Clone, PartialEq, Eq)]
pub struct OpenedPart {
    /// Its place.
    pub slot: Slot,
    /// The mask's seed.
    pub seed: SeedBytes,
    /// A's answer.
    pub a: SignedProduct,
    /// B's answer.
    pub b: SignedProduct,
}

/// What does not hold in an opened query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ThisError)]
pub enum OpenedError {
    /// The preparation is for another model or lane, or a pass has an impossible size.
    #[error("the opened query does not fit the model")]
    Model,
    /// A message is missing, left over, or out of order.
    #[error("expected the message {expected:?}, got {got:?}")]
    Order {
        /// The place that comes next.
        expected: Option<Slot>,
        /// The place found.
        got: Option<Slot>,
    },
    /// The request a node signed is not the share of the claimed input.
    #[error("{0:?}: side {1:?} signed another request than the claimed input gives")]
    Request(Slot, Side),
    /// The answer was not signed by the node named.
    #[error("{0:?}: the answer of side {1:?} is not signed by that node")]
    Signature(Slot, Side),
    /// The answers do not add up to the right product.
    #[error("{0:?}: the product is wrong")]
    Product(Slot),
}

/// Re-checks every message of an opened query with the verifier's own secrets, and returns what
/// each pass computed.
///
/// `node` names the node of each link, from the chain. `passes` start from the claimed prompt.
/// `parts` come in the order they were verified within a stage; stages and passes in order. Under a
/// thin preparation that was still to be tested the query's first pass was random rows, and these
/// parts begin with pass 1.
///
/// # Errors
/// [`OpenedError`] names the first thing that does not hold.
pub fn recheck<R: Run>(
    chain: &Hash,
    query: &Hash,
    lane: &Lane,
    preparation: &Preparation,
    node: impl Fn(Link) -> Option<Address>,
    passes: Vec<Pass<R>>,
    parts: &[OpenedPart],
) -> Result<Vec<R::Output>, OpenedError> {
    if !preparation.covers(lane) {
        return Err(OpenedError::Model);
    }
    let mut rest = parts;
    let mut outputs = Vec::with_capacity(passes.len());
    let mut waiting = VecDeque::from(passes);
    let first = parts.first().map_or(0, |part| part.slot.pass.min(1));
    for number in first.. {
        let Some(mut pass) = waiting.pop_front() else { break };
        if !(1..=MAX_PASS_TOKENS).contains(&pass.tokens) {
            return Err(OpenedError::Model);
        }
        let output = loop {
            match pass.run.step() {
                RunStep::Done(output) => break output,
                RunStep::Linear { stage, x } => {
                    let count = spec::parts(pass.tokens) as usize;
                    let taken = rest.len().min(count);
                    let (mut these, later): (Vec<&OpenedPart>, _) =
                        (rest[..taken].iter().collect(), &rest[taken..]);
                    these.sort_by_key(|p| p.slot);
                    rest = later;
                    let place = Slot { pass: number, tokens: pass.tokens, stage, part: 0 };
                    let checker = Checker { chain, query, lane, preparation, node: &node };
                    let y = checker.stage(place, &x, &these)?;
                    if !pass.run.resume(y) {
                        return Err(OpenedError::Model);
                    }
                }
            }
        };
        outputs.push(output);
        waiting.extend(pass.run.follow());
    }
    match rest.first() {
        Some(extra) => Err(OpenedError::Order { expected: None, got: Some(extra.slot) }),
        None => Ok(outputs),
    }
}

struct Checker<'a, N> {
    chain: &'a Hash,
    query: &'a Hash,
    lane: &'a Lane,
    preparation: &'a Preparation,
    node: &'a N,
}

impl<N: Fn(Link) -> Option<Address>> Checker<'_, N> {
    /// Checks all parts of one stage; returns `y` for the run's own rows.
    fn stage(
        &self,
        place: Slot,
        x: &[i32],
        parts: &[&OpenedPart],
    ) -> Result<Vec<i32>, OpenedError> {
        let (index, stage) = self.lane.find(place.stage).ok_or(OpenedError::Model)?;
        let secrets = self.preparation.stage(index).ok_or(OpenedError::Model)?;
        let (k, n) = (stage.k as usize, stage.n as usize);
        let real = x.len() / k;
        if x.len() != real * k || real > place.tokens as usize {
            return Err(OpenedError::Model);
        }
        let mut padded = x.to_vec();
        padded.resize(place.tokens as usize * k, 0);
        let mut y = Vec::with_capacity(place.tokens as usize * n);
        let mut rows = padded.chunks(spec::ROWS_PER_PART as usize * k);
        for part in 0..spec::parts(place.tokens) {
            let slot = Slot { part, ..place };
            let got = parts.get(part as usize).filter(|p| p.slot == slot);
            let Some(opened) = got else {
                let got = parts.get(part as usize).map(|p| p.slot);
                return Err(OpenedError::Order { expected: Some(slot), got });
            };
            let x = rows.next().unwrap_or_default();
            let bits = stage.share_bits();
            let words = share::conceal(x, &opened.seed.seed(), bits);
            let to_a = Request::Share { slot, share: pack::pack(&words, bits).into() };
            let to_b = Request::Seed { slot, seed: opened.seed.clone() };
            let count = slot.rows() as usize * n;
            for (side, request, signed) in [(Side::A, to_a, &opened.a), (Side::B, to_b, &opened.b)]
            {
                if signed.link.side != side || signed.request != request.digest(self.chain) {
                    return Err(OpenedError::Request(slot, side));
                }
                let statement = Statement {
                    query: *self.query,
                    side,
                    attempt: signed.link.attempt,
                    slot,
                    request: signed.request,
                    product: Statement::product_digest(self.chain, &signed.values),
                };
                let by = (self.node)(signed.link).ok_or(OpenedError::Signature(slot, side))?;
                if !signing::statement_is_signed(&statement, self.chain, &by, &signed.signature) {
                    return Err(OpenedError::Signature(slot, side));
                }
            }
            let sum = pack::unpack_sum(&opened.a.values, &opened.b.values, count, bits)
                .map_err(|_| OpenedError::Product(slot))?;
            if !bool::from(freivalds::accepts(secrets, x, &sum)) {
                return Err(OpenedError::Product(slot));
            }
            y.extend(sum);
        }
        y.truncate(real * n);
        Ok(y)
    }
}

impl Write for SignedProduct {
    fn write(&self, buf: &mut impl BufMut) {
        self.link.side.write(buf);
        self.link.attempt.write(buf);
        self.request.write(buf);
        self.values.write(buf);
        self.signature.write(buf);
    }
}

impl EncodeSize for SignedProduct {
    fn encode_size(&self) -> usize {
        2 + self.request.encode_size() + self.values.encode_size() + self.signature.encode_size()
    }
}

impl Read for SignedProduct {
    type Cfg = Limits;
    fn read_cfg(buf: &mut impl Buf, limits: &Limits) -> Result<Self, Error> {
        let link = Link { side: Side::read(buf)?, attempt: u8::read(buf)? };
        Ok(Self {
            link,
            request: Hash::read(buf)?,
            values: Bytes::read_cfg(buf, &(0..=limits.payload).into())?,
            signature: Signature::read(buf)?,
        })
    }
}

impl Write for OpenedPart {
    fn write(&self, buf: &mut impl BufMut) {
        self.slot.write(buf);
        self.seed.write(buf);
        self.a.write(buf);
        self.b.write(buf);
    }
}

impl EncodeSize for OpenedPart {
    fn encode_size(&self) -> usize {
        self.slot.encode_size()
            + self.seed.encode_size()
            + self.a.encode_size()
            + self.b.encode_size()
    }
}

impl Read for OpenedPart {
    type Cfg = Limits;
    fn read_cfg(buf: &mut impl Buf, limits: &Limits) -> Result<Self, Error> {
        Ok(Self {
            slot: Slot::read(buf)?,
            seed: SeedBytes::read(buf)?,
            a: SignedProduct::read_cfg(buf, limits)?,
            b: SignedProduct::read_cfg(buf, limits)?,
        })
    }
}
