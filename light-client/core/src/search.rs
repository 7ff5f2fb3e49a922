//! Private semantic search: documents to passages to checked vectors, ranked by exact cosine.
//!
//! A passage's vector depends on the model and its text alone, so vectors that this device has
//! checked are cached under the hash of both and never asked for twice. A question and all new
//! passages travel in one query. The cache is on this device, sealed like other secrets: a vector
//! says much about its text.

use std::collections::BTreeMap;

use nesa_crypto::SecretKey;
use nesa_model::Embedding;
use nesa_platform::storage::{StorageError, Store};
use nesa_primitives::{Hash, domain};
use serde::{Deserialize, Serialize};

use crate::{
    models::Prepared,
    passages::{self, Passage},
    query::{QueryClient, QueryError, QueryOptions, QueryOutcome, report::Quote},
};

/// Tokens of a passage at most, special tokens included: one bucket of the lane.
pub const PASSAGE_TOKENS: usize = 128;
/// Passages of one search at most.
pub const MAX_PASSAGES: usize = 480;

/// A document to be searched.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// Title or file name.
    pub title: String,
    /// The whole text.
    pub text: String,
}

/// A passage with its score.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ranked {
    /// From 1.
    pub rank: usize,
    /// Index of the document.
    pub document: usize,
    /// Title of the document.
    pub title: String,
    /// The passage.
    pub text: String,
    /// Cosine similarity, −1 to 1, of two exact vectors.
    pub score: f64,
    /// Whether the vector came from the cache.
    pub cached: bool,
}

/// A finished search.
pub struct SearchOutcome {
    /// Passages, best first.
    pub ranked: Vec<Ranked>,
    /// The query that computed what was new, the question among it.
    pub query: QueryOutcome,
    /// Passages taken from the cache.
    pub cached: usize,
}

/// Checked vectors kept on this device.
#[derive(Clone, Debug)]
pub struct VectorCache {
    store: Store,
}

const NAMESPACE: &str = "vectors";

impl VectorCache {
    /// The cache in `store`.
    pub fn new(store: Store) -> Self {
        Self { store }
    }

    fn key(model: &Hash, text: &str) -> String {
        let mut hasher = domain("vector cache", model);
        hasher.update(text.as_bytes());
        Hash::from(hasher.finalize()).to_string()
    }

    /// The vector of `text` under `model`, if this device has checked one.
    ///
    /// # Errors
    /// [`StorageError`]; an entry that was altered counts as absent.
    pub async fn get(&self, model: &Hash, text: &str) -> Result<Option<Embedding>, StorageError> {
        let sealed = match self.store.get_secret(NAMESPACE, &Self::key(model, text)).await {
            Ok(sealed) => sealed,
            Err(StorageError::Tampered(_)) => None,
            Err(error) => return Err(error),
        };
        let Some(bytes) = sealed else { return Ok(None) };
        let (Some((head, values)), 0) =
            (bytes.split_at_checked(9), bytes.len().wrapping_sub(9) % 4)
        else {
            return Ok(None);
        };
        let mut tokens = [0u8; 8];
        tokens.copy_from_slice(&head[..8]);
        Ok(Some(Embedding {
            values: values
                .chunks_exact(4)
                .map(|c| i32::from_le_bytes([c[0], c[1], c[2], c[3]]))
                .collect(),
            tokens: u64::from_le_bytes(tokens) as usize,
            truncated: head[8] != 0,
        }))
    }

    /// Keeps a vector that this device has checked.
    ///
    /// # Errors
    /// [`StorageError`].
    pub async fn put(
        &self,
        model: &Hash,
        text: &str,
        vector: &Embedding,
    ) -> Result<(), StorageError> {
        let mut bytes = Vec::with_capacity(9 + 4 * vector.values.len());
        bytes.extend_from_slice(&(vector.tokens as u64).to_le_bytes());
        bytes.push(u8::from(vector.truncated));
        for value in &vector.values {
            bytes.extend_from_slice(&value.to_le_bytes());
        }
        self.store.put_secret(NAMESPACE, &Self::key(model, text), &bytes).await
    }

    /// Forgets every vector.
    ///
    /// # Errors
    /// [`StorageError`].
    pub async fn clear(&self) -> Result<(), StorageError> {
        for key in self.store.list(NAMESPACE).await? {
            self.store.delete(NAMESPACE, &key).await?;
        }
        Ok(())
    }
}

/// A token's bytes where a model brings its tokenizer, which is not asked for a mere estimate: English
/// has four. No text makes more tokens than bytes, so that a passage is at most three times as long as
/// meant.
const BYTES_PER_TOKEN: usize = 3;

/// What a search is about to do.
pub struct SearchPlan {
    passages: Vec<Passage>,
    titles: Vec<String>,
    question: String,
    known: BTreeMap<String, Embedding>,
    /// Texts to be computed: the question first unless its vector is known, then new passages.
    texts: Vec<String>,
}

impl SearchPlan {
    /// Splits the documents and looks up what is known.
    ///
    /// # Errors
    /// [`QueryError::Texts`] for no passage or too many, [`QueryError::Storage`].
    pub async fn new(
        prepared: &Prepared,
        cache: &VectorCache,
        documents: &[Document],
        question: &str,
    ) -> Result<Self, QueryError> {
        let tokenizer = prepared.encoder()?.tokenizer();
        // Passages are cut far below the model's limit, so a text that reaches it is too long anyway.
        let count = |text: &str| {
            let Some(tokenizer) = tokenizer else { return text.len().div_ceil(BYTES_PER_TOKEN) };
            let ids = tokenizer.encode(text);
            if ids.truncated { usize::MAX } else { ids.len() - 2 }
        };
        let mut passages = Vec::new();
        for (index, document) in documents.iter().enumerate() {
            passages.extend(passages::split(index, &document.text, PASSAGE_TOKENS - 2, count));
        }
        if passages.is_empty() || passages.len() > MAX_PASSAGES {
            return Err(QueryError::Texts { got: passages.len() });
        }
        let model = prepared.model.digest();
        let mut known = BTreeMap::new();
        let mut texts: Vec<String> = Vec::new();
        let wanted = std::iter::once(question).chain(passages.iter().map(|p| p.text.as_str()));
        for text in wanted {
            if known.contains_key(text) || texts.iter().any(|t| t == text) {
                continue;
            }
            match cache.get(&model, text).await? {
                Some(vector) => {
                    known.insert(text.to_owned(), vector);
                }
                None => texts.push(text.to_owned()),
            }
        }
        // A search always asks something: with nothing new, the question is computed again, so
        // that a search has a ladder of its own.
        if texts.is_empty() {
            known.remove(question);
            texts.push(question.to_owned());
        }
        let titles = documents.iter().map(|d| d.title.clone()).collect();
        Ok(Self { passages, titles, question: question.to_owned(), known, texts })
    }

    /// Passages found.
    pub fn passages(&self) -> usize {
        self.passages.len()
    }

    /// Passages whose vectors are known: nothing is sent for them.
    pub fn cached(&self) -> usize {
        self.passages.iter().filter(|p| self.known.contains_key(&p.text)).count()
    }

    /// Texts to be computed.
    pub fn texts(&self) -> &[String] {
        &self.texts
    }
}

impl QueryClient {
    /// What a search would cost and move.
    ///
    /// # Errors
    /// [`QueryError`].
    pub async fn search_quote(
        &self,
        prepared: &Prepared,
        plan: &SearchPlan,
        options: &QueryOptions,
    ) -> Result<Quote, QueryError> {
        self.quote(prepared, &plan.texts, options).await
    }

    /// Runs a search: one query for everything new, then an exact ranking on this device.
    ///
    /// # Errors
    /// [`QueryError`].
    pub async fn search(
        &self,
        prepared: &Prepared,
        wallet: &SecretKey,
        cache: &VectorCache,
        plan: SearchPlan,
        options: &QueryOptions,
    ) -> Result<SearchOutcome, QueryError> {
        let query = self.embed(prepared, wallet, &plan.texts, options).await?;
        let ranked = plan.rank(query.answer.vectors());
        let cached = plan.cached();
        let model = prepared.model.digest();
        for (text, vector) in plan.texts.iter().zip(query.answer.vectors()) {
            // The question is private and seldom asked twice; only passages are worth keeping.
            if *text != plan.question {
                cache.put(&model, text, vector).await?;
            }
        }
        Ok(SearchOutcome { ranked, query, cached })
    }
}

impl SearchPlan {
    /// Ranks the passages by exact cosine to the question, given the vectors of the plan's texts.
    pub fn rank(&self, vectors: &[Embedding]) -> Vec<Ranked> {
        let fresh: BTreeMap<&str, &Embedding> =
            self.texts.iter().map(String::as_str).zip(vectors).collect();
        let find = |text: &str| fresh.get(text).copied().or_else(|| self.known.get(text));
        let Some(question) = find(&self.question) else { return Vec::new() };
        let mut scored: Vec<(i32, &Passage)> = self
            .passages
            .iter()
            .filter_map(|p| Some((find(&p.text)?.similarity(question), p)))
            .collect();
        // Equal scores keep the order of the documents.
        scored.sort_by_key(|(score, _)| std::cmp::Reverse(*score));
        let unit = f64::from(1u32 << nesa_model::EMBEDDING_FRACTION_BITS);
        scored
            .into_iter()
            .enumerate()
            .map(|(index, (score, passage))| Ranked {
                rank: index + 1,
                document: passage.document,
                title: self.titles.get(passage.document).cloned().unwrap_or_default(),
                text: passage.text.clone(),
                score: f64::from(score) / unit,
                cached: self.known.contains_key(&passage.text),
            })
            .collect()
    }
}
