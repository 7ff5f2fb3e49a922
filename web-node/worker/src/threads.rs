//! The threads of a volunteer's pool: workers with a module that holds the kernels and nothing else
//! (`nesa-pool`), loaded when a volunteer lends more than one core.
//!
//! Shares and slices of products lie in memory that both sides see, so nothing of them is copied on the way;
//! the modules' own memory is not shared. That needs a page that is cross-origin isolated. Questions and
//! answers are messages: waking a worker so takes some 15 µs, a slice of a product milliseconds.
//!
//! What the workers compute is checked by the node before it is used ([`nesa_node::Threads`]).

use std::{cell::RefCell, collections::BTreeMap, rc::Rc, time::Duration};

use js_sys::{Function, Int8Array, Reflect, SharedArrayBuffer, Uint32Array};
use nesa_node::{Failed, Slices, Workers};
use nesa_platform::BoxFuture;
use wasm_bindgen::JsValue;

use crate::link::{Link, Trouble};

/// Workers that one tab starts at most.
pub const MOST: u32 = 8;
/// How long the module of a worker may take to arrive and start.
const START: Duration = Duration::from_secs(30);
/// How long a worker may take to take a slice of a weight. The node waits as long.
const LOAD: Duration = Duration::from_secs(10);

/// How many workers this device has cores for, beside the one that this worker runs on.
pub fn room() -> u32 {
    let navigator = Reflect::get(&js_sys::global(), &"navigator".into());
    let cores =
        navigator.and_then(|navigator| Reflect::get(&navigator, &"hardwareConcurrency".into()));
    let cores = cores.ok().and_then(|cores| cores.as_f64()).unwrap_or(1.0);
    (cores as u32).saturating_sub(1).min(MOST)
}

/// Memory that both sides see, which grows with what is put there.
struct Shared(RefCell<SharedArrayBuffer>);

impl Shared {
    fn new() -> Self {
        Self(RefCell::new(SharedArrayBuffer::new(0)))
    }

    /// Room for `words` words.
    fn of(&self, words: usize) -> Result<SharedArrayBuffer, Failed> {
        let bytes = u32::try_from(words).ok().and_then(|words| words.checked_mul(4));
        let bytes = bytes.ok_or_else(|| Failed(format!("{words} words are too many")))?;
        let mut buffer = self.0.borrow_mut();
        if buffer.byte_length() < bytes {
            *buffer = SharedArrayBuffer::new(bytes);
        }
        Ok(buffer.clone())
    }
}

/// A share in shared memory, erased when all who wait for its product have gone.
struct Live(Uint32Array);

impl Drop for Live {
    fn drop(&mut self) {
        self.0.fill(0, 0, self.0.length());
    }
}

/// A worker, what it holds, and where it puts its products.
struct Thread {
    link: Rc<Link>,
    /// Rows of each slice, by the weight's number.
    rows: RefCell<BTreeMap<u32, usize>>,
    output: Shared,
}

/// Threads of a pool. Dropped, they end.
pub struct PoolWorkers {
    threads: Vec<Thread>,
    share: Shared,
}

impl std::fmt::Debug for PoolWorkers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PoolWorkers({})", self.threads.len())
    }
}

fn failed(trouble: Trouble) -> Failed {
    Failed(match trouble {
        Trouble::Refused(what) | Trouble::Stopped(what) => what,
        Trouble::Slow { limit } => format!("it took longer than {limit:?}"),
    })
}

impl PoolWorkers {
    /// Starts `count` workers, each made by `make`.
    ///
    /// # Errors
    /// Why this thread serves alone, for people.
    pub async fn start(make: &Function, count: u32) -> Result<Self, String> {
        let isolated = Reflect::get(&js_sys::global(), &"crossOriginIsolated".into());
        if !isolated.is_ok_and(|isolated| isolated.is_truthy()) {
            return Err("this page is not cross-origin isolated".to_owned());
        }
        let open = |_| Link::open(make).map_err(|trouble| failed(trouble).0);
        let links = (0..count).map(open).collect::<Result<Vec<_>, _>>()?;
        for link in &links {
            link.call(START, "ready", vec![]).await.map_err(|trouble| failed(trouble).0)?;
        }
        let thread =
            |link| Thread { link: Rc::new(link), rows: RefCell::default(), output: Shared::new() };
        let threads = links.into_iter().map(thread).collect();
        Ok(Self { threads, share: Shared::new() })
    }

    /// Asks one worker for its slice.
    fn ask(
        &self,
        worker: usize,
        weight: u32,
        share: &Rc<Live>,
        rows: usize,
    ) -> Result<BoxFuture<'static, Result<Vec<u32>, Failed>>, Failed> {
        let thread =
            self.threads.get(worker).ok_or_else(|| Failed(format!("no worker {worker}")))?;
        let of = thread.rows.borrow().get(&weight).copied();
        let of = of.ok_or_else(|| Failed(format!("weight {weight} is not there")))?;
        let words = rows.saturating_mul(of);
        let buffer = thread.output.of(words)?;
        let output = Uint32Array::new(&buffer).subarray(0, words as u32);
        let (share_words, product): (JsValue, JsValue) =
            (share.0.clone().into(), output.clone().into());
        let arguments = vec![weight.into(), (rows as u32).into(), share_words, product];
        let answer = thread.link.send("product", arguments).map_err(failed)?;
        let share = share.clone();
        Ok(Box::pin(async move {
            let answer = answer.await;
            // As long as somebody computes with it, the share stays.
            drop(share);
            match answer {
                Ok(Ok(_)) => {}
                Ok(Err(trouble)) => return Err(failed(trouble)),
                Err(_) => return Err(Failed("it was ended".to_owned())),
            }
            let product = output.to_vec();
            output.fill(0, 0, output.length());
            Ok(product)
        }))
    }
}

impl Workers for PoolWorkers {
    fn count(&self) -> usize {
        self.threads.len()
    }

    fn load<'a>(
        &'a self,
        worker: usize,
        weight: u32,
        w: &'a [i8],
        k: usize,
    ) -> BoxFuture<'a, Result<(), Failed>> {
        Box::pin(async move {
            let thread =
                self.threads.get(worker).ok_or_else(|| Failed(format!("no worker {worker}")))?;
            let slice: JsValue = Int8Array::from(w).into();
            let arguments = vec![weight.into(), slice, (k as u32).into()];
            thread.link.call(LOAD, "load", arguments).await.map_err(failed)?;
            let rows = w.len().checked_div(k).unwrap_or(0);
            thread.rows.borrow_mut().insert(weight, rows);
            Ok(())
        })
    }

    fn products(&self, workers: &[usize], weight: u32, share: &[u32], rows: usize) -> Slices {
        let placed = self.share.of(share.len()).map(|buffer| {
            let words = Uint32Array::new(&buffer).subarray(0, share.len() as u32);
            words.copy_from(share);
            Rc::new(Live(words))
        });
        let ask = |&worker: &usize| {
            let asked = placed.clone().and_then(|share| self.ask(worker, weight, &share, rows));
            asked.unwrap_or_else(|failed| Box::pin(async move { Err(failed) }))
        };
        workers.iter().map(ask).collect()
    }

    fn end(&self, worker: usize) {
        if let Some(thread) = self.threads.get(worker) {
            thread.link.end(Trouble::Stopped("it was ended".to_owned()));
        }
    }
}
