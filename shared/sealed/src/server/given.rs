//! What a session was given, kept so that its run can be repeated in a dispute.

use commonware_codec::{Buf, EncodeSize, Error, RangeCfg, Read, ReadExt as _, Write};
use nesa_crypto::Signature;
use nesa_model::{
    Linear,
    decoder::{DecoderModel, DecoderRun, Feed, Input as Feeding, KvCache, Logits},
};
use nesa_primitives::Hash;
use nesa_trace::{Geometry, Keep, Recorder, Rows, Trace};
use std::sync::{Arc, Mutex, PoisonError};

use super::bent::Bent;
use crate::{
    MAX_STEP,
    activation::from_bytes,
    message::{Input, Limits},
};

/// One step's input, and the client's word for it. It tells the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// Tokens before it.
    pub position: u32,
    /// The new ones.
    pub input: Input,
    /// Whether logits of every new token were wanted, and not of the last alone.
    pub every: bool,
    /// A receipt for each token.
    pub receipts: Vec<Signature>,
}

impl Write for Given {
    fn write(&self, buf: &mut impl bytes::BufMut) {
        self.position.write(buf);
        self.input.write(buf);
        self.every.write(buf);
        self.receipts.write(buf);
    }
}

impl EncodeSize for Given {
    fn encode_size(&self) -> usize {
        4 + self.input.encode_size() + 1 + self.receipts.encode_size()
    }
}

impl Read for Given {
    type Cfg = Limits;
    fn read_cfg(buf: &mut impl Buf, limits: &Limits) -> Result<Self, Error> {
        Ok(Self {
            position: u32::read(buf)?,
            input: Input::read_cfg(buf, limits)?,
            every: bool::read(buf)?,
            receipts: Vec::read_cfg(buf, &(RangeCfg::new(0..=MAX_STEP), ()))?,
        })
    }
}

impl Given {
    /// Tokens of the step, where rows are `d_model` wide.
    pub fn tokens(&self, d_model: usize) -> usize {
        match &self.input {
            Input::Tokens(tokens) => tokens.len(),
            Input::Rows(rows) => rows.len() / (4 * d_model).max(1),
        }
    }
}

/// Bytes that keeping what a session is given takes, for so many tokens.
pub fn given_bytes(model: &DecoderModel, tokens: usize) -> usize {
    let row = if model.takes_tokens() { 4 } else { 4 * model.config().d_model as usize };
    tokens.saturating_mul(row + size_of::<Signature>() + 16)
}

/// Runs a session's steps again on the shard and what computes its linear stages: its trace, and the rows that `keep` picks. `lie` is the token at which
/// the node lied ([`Bent`]), if it is one of a scenario that does. `None` if a step does not fit the model
/// or the steps before it.
pub fn replay(
    (model, engine): (&DecoderModel, &impl Linear),
    salt: &Hash,
    given: &[Given],
    keep: &dyn Fn(&Geometry) -> Keep,
    lie: Option<usize>,
) -> Option<(Trace, Rows)> {
    let layers = model.layers();
    let geometry = Geometry::of(model.config(), layers.start as u16..layers.end as u16).ok()?;
    let (mut trace, mut rows) = (Trace::new(geometry, *salt), Rows::new());
    let (mut cache, mut at) = (KvCache::new(), 0);
    for step in given {
        if step.position as usize != at {
            return None;
        }
        let input = match &step.input {
            Input::Tokens(tokens) => Feeding::Tokens(tokens.clone()),
            Input::Rows(bytes) => Feeding::Hidden(from_bytes(bytes)?),
        };
        let tokens = step.tokens(model.config().d_model as usize);
        let recorder = Recorder::new(vec![trace]).keeping(keep(&geometry));
        let recorder = Arc::new(Mutex::new(recorder));
        let logits = if step.every { Logits::All } else { Logits::Last };
        let feed = Feed { cache, input, logits };
        let run = DecoderRun::start_observed(model, vec![feed], Box::new(recorder.clone())).ok()?;
        let row = lie.and_then(|token| token.checked_sub(at)).filter(|row| *row < tokens);
        let ran = match row {
            Some(row) => run.run(&Bent::new(model, engine, row, tokens)),
            None => run.run(engine),
        };
        cache = ran.ok()?.pop()?.cache;
        let (longer, more) =
            recorder.lock().unwrap_or_else(PoisonError::into_inner).finish().pop()?;
        trace = longer;
        rows.extend(more);
        at += tokens;
    }
    Some((trace, rows))
}
