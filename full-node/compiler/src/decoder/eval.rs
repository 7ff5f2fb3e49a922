//! Accuracy of the exact form of a decoder: perplexity and greedy agreement with the f32 original.

use nesa_model::PlainDecoder;
use nesa_model::decoder::{DecoderModel, DecoderRun, Feed, Input, KvCache, Logits, Output};
use serde::Serialize;

use super::forward::{Llama, f32_logits};
use crate::source::SourceError;

/// Accuracy figures of a decoder.
#[derive(Clone, Debug, Serialize)]
pub struct DecoderAccuracy {
    /// Texts compared.
    pub texts: usize,
    /// Tokens predicted.
    pub tokens: usize,
    /// Perplexity of the original over them.
    pub original_perplexity: f64,
    /// Perplexity of the exact form.
    pub exact_perplexity: f64,
    /// How much worse the exact form is, as a share.
    pub perplexity_loss: f64,
    /// Share of positions whose most likely next token is the same.
    pub greedy_agreement: f64,
}

/// Logits of the exact form after each token, as floats.
pub fn exact_logits(model: &DecoderModel, tokens: &[u32]) -> Vec<f32> {
    let input = Input::Tokens(tokens.to_vec());
    let feed = Feed { cache: KvCache::new(), input, logits: Logits::All };
    // The engine always returns what the run asks for, so the second step cannot fail.
    let Ok(run) = DecoderRun::start(model, vec![feed]) else { return Vec::new() };
    let fed = run.run(&PlainDecoder(model)).unwrap_or_default();
    match fed.into_iter().next().map(|f| f.output) {
        Some(Output::Logits(l)) => l.iter().map(|&l| l as f32 / 65536.0).collect(),
        _ => Vec::new(),
    }
}

/// Compares the exact form with the original over token sequences of at least two tokens each.
///
/// # Errors
/// [`SourceError`] when a tensor of the original cannot be read.
pub fn evaluate_decoder(
    llama: &Llama,
    model: &DecoderModel,
    texts: &[Vec<u32>],
    mut progress: impl FnMut(usize),
) -> Result<DecoderAccuracy, SourceError> {
    let vocab = llama.config.vocab_size;
    let (mut tokens, mut agree) = (0usize, 0usize);
    let (mut original_loss, mut exact_loss) = (0.0, 0.0);
    // Several texts share one reading of the weights.
    for (done, batch) in texts.chunks(16).enumerate() {
        let originals = f32_logits(llama, batch)?;
        for (text, original) in batch.iter().zip(originals) {
            let exact = exact_logits(model, text);
            let rows = original.chunks_exact(vocab).zip(exact.chunks_exact(vocab));
            for ((original, exact), &next) in rows.zip(text.iter().skip(1)) {
                original_loss += loss(original, next);
                exact_loss += loss(exact, next);
                agree += usize::from(greatest(original) == greatest(exact));
                tokens += 1;
            }
        }
        progress(((done + 1) * 16).min(texts.len()));
    }
    let count = tokens.max(1) as f64;
    let original_perplexity = libm::exp(original_loss / count);
    let exact_perplexity = libm::exp(exact_loss / count);
    Ok(DecoderAccuracy {
        texts: texts.len(),
        tokens,
        original_perplexity,
        exact_perplexity,
        perplexity_loss: exact_perplexity / original_perplexity - 1.0,
        greedy_agreement: agree as f64 / count,
    })
}

/// `−ln` of the softmax's share of `next`.
fn loss(logits: &[f32], next: u32) -> f64 {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&l| libm::exp(f64::from(l - max))).sum();
    let own = logits.get(next as usize).copied().unwrap_or(f32::NEG_INFINITY);
    libm::log(sum) - f64::from(own - max)
}

fn greatest(logits: &[f32]) -> usize {
    let best = |a: (usize, f32), (i, &l): (usize, &f32)| if l > a.1 { (i, l) } else { a };
    logits.iter().enumerate().fold((0, f32::NEG_INFINITY), best).0
}
