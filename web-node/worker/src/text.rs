//! The tokenizers that models bring, in a worker of their own.
//!
//! Each model's files are opened in a fresh worker that holds nothing else. Its module is downloaded when
//! a chat first needs it. A worker that traps, or does not answer in time, is terminated; what it was
//! asked is a [`TextError`], and this worker goes on.

use std::{cell::Cell, rc::Rc, sync::Arc, time::Duration};

use futures::lock::Mutex;
use js_sys::{Function, Uint8Array, Uint32Array};
use nesa_light::query::{
    Said,
    engine::{Pieces, SharedCodec, TextCodec, TextEngine, TextError, TextFiles},
};
use nesa_platform::BoxFuture;
use nesa_primitives::Hash;
use wasm_bindgen::{JsCast as _, JsValue};

use crate::link::{Link, Trouble};

/// Opened models kept; each is a worker with its vocabulary in memory.
const KEPT: usize = 2;
/// Tokens of a prompt at most: far more than any context, and little enough to copy.
const MAX_TOKENS: u32 = 1 << 20;
/// Characters that one token may be shown as.
const MAX_PIECE: u32 = 1 << 16;

/// How long a tokenizer's worker may take.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// To download and start the module.
    pub start: Duration,
    /// To read a model's files.
    pub open: Duration,
    /// To turn a prompt into tokens.
    pub prompt: Duration,
    /// To turn a token into text.
    pub piece: Duration,
}

impl Default for Patience {
    /// A minute for a slow connection; vocabularies of a few hundred thousand tokens take seconds.
    fn default() -> Self {
        Self {
            start: Duration::from_secs(60),
            open: Duration::from_secs(20),
            prompt: Duration::from_secs(10),
            piece: Duration::from_secs(5),
        }
    }
}

/// Opens tokenizers in workers.
pub struct TextWorkers {
    /// Makes a worker that runs `text-worker.js`.
    make: Function,
    patience: Patience,
    /// The last used comes last. Locked while one is opened, so that nothing is opened twice.
    opened: Mutex<Vec<(Hash, Arc<Codec>)>>,
}

impl std::fmt::Debug for TextWorkers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TextWorkers").field("patience", &self.patience).finish_non_exhaustive()
    }
}

impl TextWorkers {
    /// Workers that `make` makes.
    pub fn new(make: Function, patience: Patience) -> Self {
        Self { make, patience, opened: Mutex::default() }
    }

    async fn start(&self, files: &TextFiles) -> Result<Arc<Codec>, TextError> {
        let link = Link::open(&self.make)?;
        link.call(self.patience.start, "ready", vec![]).await?;
        let template = files.template.as_deref().map(Uint8Array::from);
        let start = files.start.map_or(JsValue::UNDEFINED, JsValue::from);
        let files = vec![
            Uint8Array::from(&files.tokenizer[..]).into(),
            template.map_or(JsValue::UNDEFINED, JsValue::from),
            files.vocab.into(),
            start,
            Uint32Array::from(&files.ends[..]).into(),
        ];
        link.call(self.patience.open, "open", files).await?;
        Ok(Arc::new(Codec { link: Rc::new(link), patience: self.patience, streams: Cell::new(0) }))
    }
}

impl TextEngine for TextWorkers {
    fn open(&self, files: TextFiles) -> BoxFuture<'_, Result<SharedCodec, TextError>> {
        Box::pin(async move {
            let mut opened = self.opened.lock().await;
            let known = opened.iter().position(|(model, _)| *model == files.model);
            let known = known.map(|at| opened.remove(at).1);
            let codec = match known.filter(|codec| codec.link.alive()) {
                Some(codec) => codec,
                None => self.start(&files).await?,
            };
            opened.push((files.model, codec.clone()));
            let surplus = opened.len().saturating_sub(KEPT);
            opened.drain(..surplus);
            Ok(codec as SharedCodec)
        })
    }
}

/// A model's tokenizer in its worker.
struct Codec {
    link: Rc<Link>,
    patience: Patience,
    streams: Cell<u32>,
}

impl TextCodec for Codec {
    fn tokens<'a>(&'a self, said: &'a Said) -> BoxFuture<'a, Result<Vec<u32>, TextError>> {
        Box::pin(async move {
            let tokens = match said {
                Said::Text(text) => {
                    self.link.call(self.patience.prompt, "text", vec![text.into()]).await?
                }
                Said::Chat(turns) => {
                    let turns = serde_json::to_string(turns)
                        .map_err(|error| TextError::Refused(error.to_string()))?;
                    self.link.call(self.patience.prompt, "chat", vec![turns.into()]).await?
                }
            };
            let tokens: Uint32Array = tokens
                .dyn_into()
                .map_err(|_| self.link.end(Trouble::Stopped("it gave no tokens".into())))?;
            if tokens.length() > MAX_TOKENS {
                let got = tokens.length();
                let what = format!("the prompt has {got} tokens, at most {MAX_TOKENS} allowed");
                return Err(TextError::Refused(what));
            }
            Ok(tokens.to_vec())
        })
    }

    fn stream(&self, before: &[u32]) -> BoxFuture<'_, Result<Box<dyn Pieces>, TextError>> {
        let id = self.streams.get();
        self.streams.set(id.wrapping_add(1));
        let before = Uint32Array::from(before);
        Box::pin(async move {
            self.link.call(self.patience.prompt, "stream", vec![id.into(), before.into()]).await?;
            let stream = Stream { link: self.link.clone(), limit: self.patience.piece, id };
            Ok(Box::new(stream) as Box<dyn Pieces>)
        })
    }
}

/// A stream of text in a tokenizer's worker.
struct Stream {
    link: Rc<Link>,
    limit: Duration,
    id: u32,
}

impl Pieces for Stream {
    fn push(&mut self, token: u32) -> BoxFuture<'_, Result<String, TextError>> {
        Box::pin(async move {
            let piece =
                self.link.call(self.limit, "push", vec![self.id.into(), token.into()]).await?;
            Ok(self.link.words(piece, MAX_PIECE)?)
        })
    }

    fn finish(self: Box<Self>) -> BoxFuture<'static, Result<String, TextError>> {
        Box::pin(async move {
            let rest = self.link.call(self.limit, "finish", vec![self.id.into()]).await?;
            Ok(self.link.words(rest, MAX_PIECE)?)
        })
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // A finished one is gone there already, which does no harm.
        drop(self.link.send("drop", vec![self.id.into()]));
    }
}

impl From<Trouble> for TextError {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Refused(what) => Self::Refused(what),
            Trouble::Stopped(what) => Self::Stopped(what),
            Trouble::Slow { limit } => Self::Slow { limit },
        }
    }
}
