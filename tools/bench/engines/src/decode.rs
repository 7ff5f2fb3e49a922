//! A decoder as exports: `open_decoder()` instead of `open()`, then `feed(first, count)`.

use nesa_model::decoder::{DecoderModel, DecoderRun, Feed, Input, KvCache, Logits, Output};
use nesa_model::{Artifact, ModelLimits, PlainDecoder};
use std::sync::Mutex;

static DECODER: Mutex<Option<(DecoderModel, KvCache)>> = Mutex::new(None);

/// Opens the decoder whose bytes were put at `reserve`'s address: 1 when it is ready.
#[unsafe(no_mangle)]
pub extern "C" fn open_decoder() -> i32 {
    let (Ok(mut file), Ok(mut place)) = (super::FILE.lock(), DECODER.lock()) else { return 0 };
    let artifact = Artifact::open(std::mem::take(&mut *file), &ModelLimits::default()).ok();
    let model = artifact.and_then(|a| DecoderModel::open(&a).ok());
    *place = model.map(|model| (model, KvCache::new()));
    place.is_some().into()
}

/// Reads `count` fixed tokens from number `first` on, forgetting all before if that is 0; a checksum
/// (FNV-1a) of the last one's logits, the same as of the example `decode`, or 0 if that fails.
#[unsafe(no_mangle)]
pub extern "C" fn feed(first: usize, count: usize) -> u64 {
    let Ok(mut place) = DECODER.lock() else { return 0 };
    let Some((model, cache)) = place.as_mut() else { return 0 };
    if first == 0 {
        *cache = KvCache::new();
    }
    let vocab = u64::from(model.config().vocab);
    let tokens = (first..first + count).map(|i| (i as u64 * 7919 % vocab) as u32).collect();
    let input = Input::Tokens(tokens);
    let feed = Feed { cache: std::mem::take(cache), input, logits: Logits::Last };
    let run = DecoderRun::start(model, vec![feed]).ok();
    let fed = run.and_then(|run| run.run(&PlainDecoder(model)).ok()).and_then(|mut f| f.pop());
    let Some(fed) = fed else { return 0 };
    *cache = fed.cache;
    let Output::Logits(logits) = fed.output else { return 0 };
    logits.iter().flat_map(|l| l.to_le_bytes()).fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    })
}
