//! Accuracy of the exact form against the f32 original.

use nesa_model::{Embedding, EncoderRun, Model, PlainEngine, TokenIds};
use nesa_tokenizer::TokenizerError;
use serde::Serialize;

use crate::reader::Reader;
use crate::source::{Bert, SourceError};
use crate::yardstick;

/// The varied sentences and passages that accuracy is measured on, one per line.
pub const CORPUS: &str = include_str!("../data/corpus.txt");

/// Accuracy figures.
#[derive(Clone, Debug, Serialize)]
pub struct Accuracy {
    /// Texts compared.
    pub texts: usize,
    /// Mean cosine between the exact and the original embedding.
    pub mean_cosine: f64,
    /// Smallest cosine.
    pub min_cosine: f64,
    /// The text with the smallest cosine.
    pub worst: String,
    /// Share of texts whose nearest other text is the same by both embeddings.
    pub top1_agreement: f64,
    /// Texts longer than the model's limit, compared after truncation.
    pub truncated: usize,
    /// Tokens embedded.
    pub tokens: usize,
}

/// The original's embeddings of the first lines of [`CORPUS`], for machines without the original.
static REFERENCE: &[u8] = include_bytes!("../data/reference.bin");

/// Lines of [`CORPUS`] in the committed reference.
pub const REFERENCE_TEXTS: usize = 200;

/// What one is in a reference vector's 16-bit integers.
const REFERENCE_ONE: f32 = 32767.0;

/// Unit vectors as 16-bit little-endian integers, for a committed reference.
pub fn encode_reference(vectors: &[Vec<f32>]) -> Vec<u8> {
    let quantized = vectors.iter().flatten().map(|v| (v * REFERENCE_ONE).round() as i16);
    quantized.flat_map(i16::to_le_bytes).collect()
}

/// Compares a model with the committed embeddings of its original; needs no other file.
///
/// `None` when the reference is of another width, so surely of another model.
pub fn evaluate_committed(model: &Model, mut progress: impl FnMut(usize)) -> Option<Accuracy> {
    let (d, words) = (model.d_model(), model.tokenizer()?);
    let values: Vec<f32> = REFERENCE
        .as_chunks::<2>()
        .0
        .iter()
        .map(|&b| f32::from(i16::from_le_bytes(b)) / REFERENCE_ONE)
        .collect();
    if values.len() != REFERENCE_TEXTS * d {
        return None;
    }
    let original: Vec<Vec<f32>> = values.chunks_exact(d).map(<[f32]>::to_vec).collect();
    let texts: Vec<&str> = CORPUS.lines().take(REFERENCE_TEXTS).collect();
    let mut exact = Vec::with_capacity(texts.len());
    let (mut tokens, mut truncated) = (0, 0);
    for (i, text) in texts.iter().enumerate() {
        let ids = words.encode(text);
        tokens += ids.len();
        truncated += usize::from(ids.truncated);
        exact.extend(embed_exact(model, &[ids]).iter().map(Embedding::to_f32));
        progress(i + 1);
    }
    Some(compare(&texts, &original, &exact, tokens, truncated))
}

/// Embeds a batch with the exact model on this machine.
pub fn embed_exact(model: &Model, batch: &[TokenIds]) -> Vec<Embedding> {
    // The engine always returns what the run asks for, so the second step cannot fail.
    EncoderRun::start(model, batch)
        .map(|run| run.run(&PlainEngine(model)).unwrap_or_default())
        .unwrap_or_default()
}

/// Texts whose rows are held at once.
const BATCH: usize = 64;

/// Compares the exact model with the original over `texts`.
///
/// # Errors
/// [`SourceError`] when a tensor of the original cannot be read.
pub fn evaluate<'a>(
    bert: &Bert,
    model: &Model,
    texts: impl IntoIterator<Item = &'a str>,
    progress: impl FnMut(usize),
) -> Result<Accuracy, SourceError> {
    let texts: Vec<&str> = texts.into_iter().collect();
    let pairs = both(bert, model, &texts, progress)?;
    Ok(compare(&texts, &pairs.original, &pairs.exact, pairs.tokens, pairs.truncated))
}

/// What original and exact form make of texts.
struct Pairs {
    original: Vec<Vec<f32>>,
    exact: Vec<Vec<f32>>,
    tokens: usize,
    truncated: usize,
}

fn both(
    bert: &Bert,
    model: &Model,
    texts: &[&str],
    mut progress: impl FnMut(usize),
) -> Result<Pairs, SourceError> {
    let (mut original, mut exact) = (Vec::new(), Vec::new());
    let (mut tokens, mut truncated) = (0, 0);
    let refused = |error: TokenizerError| SourceError::Unsupported {
        what: "tokenizer",
        got: error.to_string(),
        expected: "one that reads the texts",
    };
    let reader = Reader::of(model).map_err(refused)?;
    for texts in texts.chunks(BATCH) {
        let ids = texts.iter().map(|text| reader.encode(text));
        let ids = ids.collect::<Result<Vec<TokenIds>, _>>().map_err(refused)?;
        tokens += ids.iter().map(TokenIds::len).sum::<usize>();
        truncated += ids.iter().filter(|i| i.truncated).count();
        original.extend(yardstick::run(bert, &ids)?);
        for ids in ids {
            exact.extend(embed_exact(model, &[ids]).iter().map(Embedding::to_f32));
        }
        progress(exact.len());
    }
    Ok(Pairs { original, exact, tokens, truncated })
}

/// How close a text classifier in exact form stays to its original.
#[derive(Clone, Debug, Serialize)]
pub struct TextClassifierAccuracy {
    /// Texts compared.
    pub texts: usize,
    /// Share of them in the same class.
    pub agreement: f64,
    /// Root mean square of the logits' errors.
    pub logit_error: f64,
    /// Largest error of a logit.
    pub largest_error: f64,
    /// Texts longer than the model's limit, compared after truncation.
    pub truncated: usize,
    /// Tokens read.
    pub tokens: usize,
}

/// Compares a text classifier with its original over `texts`.
///
/// # Errors
/// [`SourceError`] when a tensor of the original cannot be read.
pub fn evaluate_classes<'a>(
    bert: &Bert,
    model: &Model,
    texts: impl IntoIterator<Item = &'a str>,
    progress: impl FnMut(usize),
) -> Result<TextClassifierAccuracy, SourceError> {
    let texts: Vec<&str> = texts.into_iter().collect();
    let Pairs { original, exact, tokens, truncated } = both(bert, model, &texts, progress)?;
    let (mut agree, mut squares, mut largest, mut logits) = (0usize, 0.0, 0.0f64, 0usize);
    for (original, exact) in original.iter().zip(&exact) {
        agree += usize::from(greatest(original) == greatest(exact));
        for (o, e) in original.iter().zip(exact) {
            let error = f64::from(o - e).abs();
            squares += error * error;
            largest = largest.max(error);
            logits += 1;
        }
    }
    Ok(TextClassifierAccuracy {
        texts: texts.len(),
        agreement: agree as f64 / texts.len().max(1) as f64,
        logit_error: (squares / logits.max(1) as f64).sqrt(),
        largest_error: largest,
        truncated,
        tokens,
    })
}

fn greatest(values: &[f32]) -> usize {
    let best = |a: (usize, f32), (i, &v): (usize, &f32)| if v > a.1 { (i, v) } else { a };
    values.iter().enumerate().fold((0, f32::NEG_INFINITY), best).0
}

/// Figures from two lists of unit vectors for the same texts.
pub fn compare(
    texts: &[&str],
    original: &[Vec<f32>],
    exact: &[Vec<f32>],
    tokens: usize,
    truncated: usize,
) -> Accuracy {
    let cosines: Vec<f64> = original.iter().zip(exact).map(|(a, b)| cosine(a, b)).collect();
    let worst = cosines
        .iter()
        .enumerate()
        .min_by(|a, b| a.1.total_cmp(b.1))
        .map_or((0, 0.0), |(i, &c)| (i, c));
    let agree = (0..texts.len()).filter(|&i| nearest(original, i) == nearest(exact, i)).count();
    let count = texts.len().max(1) as f64;
    Accuracy {
        texts: texts.len(),
        mean_cosine: cosines.iter().sum::<f64>() / count,
        min_cosine: worst.1,
        worst: texts.get(worst.0).map_or(String::new(), |t| (*t).to_owned()),
        top1_agreement: agree as f64 / count,
        truncated,
        tokens,
    }
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
    };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

fn nearest(vectors: &[Vec<f32>], to: usize) -> Option<usize> {
    let mut best: Option<(f32, usize)> = None;
    for (i, v) in vectors.iter().enumerate() {
        if i == to {
            continue;
        }
        let mut lanes = [0f32; 8];
        for (a, b) in v.as_chunks::<8>().0.iter().zip(vectors[to].as_chunks::<8>().0) {
            for l in 0..8 {
                lanes[l] += a[l] * b[l];
            }
        }
        let score: f32 = lanes.iter().sum();
        if best.is_none_or(|(b, _)| score > b) {
            best = Some((score, i));
        }
    }
    best.map(|b| b.1)
}
