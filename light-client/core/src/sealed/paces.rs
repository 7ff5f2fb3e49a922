//! How fast nodes have written for this client, and how much time a later text is given for it.
//!
//! The deadline is paid for before nodes are drawn, so it cannot follow the nodes' own speed: it follows what the
//! replicas of earlier texts of the same model, cut into as many shards, have taken. Too short, and the text is cut
//! off; too long, and the user waits for the commitments, which are revealed after it.

use std::time::Duration;

use nesa_platform::storage::{StorageError, Store};
use nesa_primitives::Hash;

use super::SealedTimings;

/// Namespace of what was measured.
const NAMESPACE: &str = "sealed-paces";
/// Texts looked back on.
const KEPT: usize = 8;
/// Fewer tokens tell nothing: their time is that of opening and finishing.
const FEWEST: usize = 8;
/// A token's time while nothing is known: a round trip per shard, one after another.
const UNKNOWN: Duration = Duration::from_millis(250);
/// Other nodes are drawn each time, and machines are busy at times: so many times the slowest that was seen.
const SLACK: u32 = 3;
/// A token's least time.
const LEAST: Duration = Duration::from_millis(100);
/// A token's greatest time.
const MOST: Duration = Duration::from_secs(10);

/// What was measured on this device.
pub(super) struct Paces<'a>(pub(super) &'a Store);

impl Paces<'_> {
    /// The time that a token of `model` in so many shards is given.
    ///
    /// # Errors
    /// [`StorageError`].
    pub(super) async fn allowed(
        &self,
        model: &Hash,
        shards: usize,
    ) -> Result<Duration, StorageError> {
        Ok(allowed(&self.read(model, shards).await?))
    }

    /// Notes a text of `tokens` tokens, which all replicas have written.
    ///
    /// # Errors
    /// [`StorageError`].
    pub(super) async fn written(
        &self,
        (model, shards): (&Hash, usize),
        tokens: usize,
        timings: &SealedTimings,
    ) -> Result<(), StorageError> {
        // Who waited for a node that was gone learnt nothing of the others.
        let lost: f64 = timings.recovered_ms.iter().sum();
        let ms = (timings.total_ms - timings.first_token_ms - lost).max(0.0);
        let took = Duration::from_micros((ms * 1000.0) as u64);
        match u32::try_from(tokens) {
            Ok(count) if tokens >= FEWEST => self.note(model, shards, took / count).await,
            _ => Ok(()),
        }
    }

    /// Notes that a text was not done in the time it was `given` a token: the next one has twice as much.
    ///
    /// # Errors
    /// [`StorageError`].
    pub(super) async fn missed(
        &self,
        (model, shards): (&Hash, usize),
        given: Duration,
    ) -> Result<(), StorageError> {
        self.note(model, shards, given * 2 / SLACK).await
    }

    async fn note(&self, model: &Hash, shards: usize, pace: Duration) -> Result<(), StorageError> {
        let mut paces = self.read(model, shards).await?;
        paces.push(pace);
        let last = &paces[paces.len().saturating_sub(KEPT)..];
        let us = |pace: &Duration| u32::try_from(pace.as_micros()).unwrap_or(u32::MAX);
        let bytes: Vec<u8> = last.iter().flat_map(|pace| us(pace).to_be_bytes()).collect();
        self.0.put(NAMESPACE, &key(model, shards), &bytes).await
    }

    async fn read(&self, model: &Hash, shards: usize) -> Result<Vec<Duration>, StorageError> {
        let bytes = self.0.get(NAMESPACE, &key(model, shards)).await?.unwrap_or_default();
        let (words, _) = bytes.as_chunks::<4>();
        Ok(words.iter().map(|us| Duration::from_micros(u32::from_be_bytes(*us).into())).collect())
    }
}

fn key(model: &Hash, shards: usize) -> String {
    format!("{model}.{shards}")
}

fn allowed(paces: &[Duration]) -> Duration {
    let slowest = paces.iter().max();
    slowest.map_or(UNKNOWN, |pace| pace.saturating_mul(SLACK).clamp(LEAST, MOST))
}

#[cfg(all(test, not(target_family = "wasm")))]
#[allow(clippy::unwrap_used)] // a failed set-up is a failed test
mod tests {
    use super::*;

    const MODEL: Hash = Hash([7; 32]);
    const SHARDS: usize = 2;

    /// A text whose first token came after a second, and which waited half a second for a node.
    fn took(ms: u64) -> SealedTimings {
        let total_ms = 1_500.0 + ms as f64;
        let recovered_ms = vec![200.0, 300.0];
        SealedTimings {
            first_token_ms: 1_000.0,
            total_ms,
            recovered_ms,
            ..SealedTimings::default()
        }
    }

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[tokio::test]
    async fn the_slowest_of_the_last_texts_decides_within_bounds() {
        let store = Store::memory();
        let paces = Paces(&store);
        let now = || async { paces.allowed(&MODEL, SHARDS).await.unwrap() };
        let here = (&MODEL, SHARDS);
        assert_eq!(now().await, UNKNOWN);
        // Too short a text says nothing.
        paces.written(here, FEWEST - 1, &took(60_000)).await.unwrap();
        assert_eq!(now().await, UNKNOWN);
        paces.written(here, 10, &took(10)).await.unwrap();
        assert_eq!(now().await, LEAST, "fast nodes");
        paces.written(here, 10, &took(4_000)).await.unwrap();
        assert_eq!(now().await, ms(1_200), "three times 400 ms a token");
        paces.written(here, 10, &took(1_000_000)).await.unwrap();
        assert_eq!(now().await, MOST);
        for _ in 0..KEPT {
            paces.written(here, 10, &took(500)).await.unwrap();
        }
        assert_eq!(now().await, ms(150), "what was long ago is forgotten");
        // Of another number of shards nothing is known.
        assert_eq!(paces.allowed(&MODEL, 3).await.unwrap(), UNKNOWN);
    }

    #[tokio::test]
    async fn after_a_deadline_that_was_missed_there_is_twice_the_time() {
        let store = Store::memory();
        let paces = Paces(&store);
        for expected in [ms(500), ms(1_000), ms(2_000)] {
            let given = paces.allowed(&MODEL, SHARDS).await.unwrap();
            paces.missed((&MODEL, SHARDS), given).await.unwrap();
            let next = paces.allowed(&MODEL, SHARDS).await.unwrap();
            // Kept in whole microseconds.
            assert!(expected.abs_diff(next) < ms(1), "{next:?}");
        }
    }
}
