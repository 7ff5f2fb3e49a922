//! What is kept of which models, written down so that a restart finds it again.
//!
//! A part is in the book before its first piece is fetched, and out of it before its first piece goes: what
//! lies on the device beside the parts in the book is left over and may be removed.

use std::{collections::BTreeSet, ops::Range, sync::Arc};

use nesa_model::{
    Header,
    decoder::{Shard, ShardError},
};
use nesa_platform::storage::{StorageError, Store};
use nesa_primitives::Hash;

/// Namespace of the book.
const BOOK: &str = "kept-parts";

/// Of a model, what is kept together: a range of layers, or all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Part {
    pub(crate) model: Hash,
    /// First layer and the end of the range; `None` for the whole model.
    layers: Option<(usize, usize)>,
}

impl Part {
    pub(crate) const fn whole(model: Hash) -> Self {
        Self { model, layers: None }
    }

    pub(crate) const fn of(model: Hash, layers: &Range<usize>) -> Self {
        Self { model, layers: Some((layers.start, layers.end)) }
    }

    /// Its pieces, without the header.
    pub(super) fn pieces(&self, header: &Arc<Header>) -> Result<BTreeSet<usize>, ShardError> {
        match self.layers {
            None => Ok((1..header.piece_count()).collect()),
            Some((start, end)) => Ok(Shard::new(header.clone(), start..end)?.missing().collect()),
        }
    }

    fn key(&self) -> String {
        match self.layers {
            None => format!("{}.whole", self.model),
            Some((start, end)) => format!("{}.{start}.{end}", self.model),
        }
    }

    fn parse(key: &str) -> Option<Self> {
        let (model, rest) = key.split_once('.')?;
        let model = model.parse().ok()?;
        if rest == "whole" {
            return Some(Self::whole(model));
        }
        let (start, end) = rest.split_once('.')?;
        Some(Self::of(model, &(start.parse().ok()?..end.parse().ok()?)))
    }
}

/// The book of a store.
pub(super) struct Book(pub(super) Store);

impl Book {
    /// All parts, the one used longest ago first.
    pub(super) async fn read(&self) -> Result<Vec<(u64, Part)>, StorageError> {
        let mut entries = Vec::new();
        for key in self.0.list(BOOK).await? {
            let used = self.0.get(BOOK, &key).await?.and_then(|bytes| {
                Some(u64::from_be_bytes(<[u8; 8]>::try_from(bytes.as_ref()).ok()?))
            });
            // Whatever somebody else wrote there was never used.
            entries.extend(Part::parse(&key).map(|part| (used.unwrap_or(0), part)));
        }
        entries.sort_unstable();
        Ok(entries)
    }

    /// Notes a part as the one used last.
    pub(super) async fn put(
        &self,
        part: &Part,
        entries: &[(u64, Part)],
    ) -> Result<(), StorageError> {
        let last = entries.last().map_or(0, |(used, _)| *used);
        self.0.put(BOOK, &part.key(), &last.saturating_add(1).to_be_bytes()).await
    }

    pub(super) async fn remove(&self, part: &Part) -> Result<(), StorageError> {
        self.0.delete(BOOK, &part.key()).await
    }
}

/// Which of `kept`, oldest first, must go so that `new` fits beside the rest into `budget` bytes, as `weigh`
/// counts them; only those that `may_go`.
///
/// # Errors
/// The bytes there would be all the same. Then nothing has to go.
pub(super) fn room(
    kept: &[Part],
    new: &Part,
    budget: u64,
    may_go: impl Fn(&Part) -> bool,
    weigh: impl Fn(&[Part]) -> u64,
) -> Result<Vec<Part>, u64> {
    let alone = weigh(&[*new]);
    if alone > budget {
        return Err(alone);
    }
    let mut stay: Vec<Part> = kept.iter().filter(|part| *part != new).copied().collect();
    stay.push(*new);
    let mut gone = Vec::new();
    loop {
        let bytes = weigh(&stay);
        if bytes <= budget {
            return Ok(gone);
        }
        let oldest = stay.iter().position(|part| part != new && may_go(part)).ok_or(bytes)?;
        gone.push(stay.remove(oldest));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failed set-up is a failed test
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MODEL: Hash = Hash([7; 32]);

    /// Pieces are layers here, of ten bytes each; parts share them.
    fn weigh(parts: &[Part]) -> u64 {
        let layers = parts.iter().flat_map(|part| match part.layers {
            Some((start, end)) => start..end,
            None => 0..8,
        });
        layers.collect::<BTreeSet<_>>().len() as u64 * 10
    }

    fn part() -> impl Strategy<Value = Part> {
        (0usize..8, 1usize..5).prop_map(|(start, len)| Part::of(MODEL, &(start..start + len)))
    }

    proptest! {
        #[test]
        fn what_stays_fits_and_no_more_goes_than_must(
            kept in proptest::collection::vec(part(), 0..6),
            new in part(),
            busy in proptest::collection::vec(part(), 0..3),
            budget in 0u64..130,
        ) {
            let may_go = |part: &Part| !busy.contains(part);
            match room(&kept, &new, budget, may_go, weigh) {
                Ok(gone) => {
                    prop_assert!(!gone.contains(&new) && gone.iter().all(may_go));
                    let stays = |gone: &[Part]| {
                        let mut stay: Vec<Part> = kept.clone();
                        for part in gone {
                            let at = stay.iter().position(|other| other == part).unwrap();
                            stay.remove(at);
                        }
                        stay.push(new);
                        weigh(&stay)
                    };
                    prop_assert!(stays(&gone) <= budget);
                    // Without the last that went, it would not fit.
                    if let Some((_, before)) = gone.split_last() {
                        prop_assert!(stays(before) > budget);
                    }
                }
                Err(bytes) => prop_assert!(bytes > budget),
            }
        }
    }

    #[tokio::test]
    async fn the_book_is_read_as_it_was_written_in_the_order_of_use() {
        let book = Book(Store::memory());
        let (first, second) = (Part::of(MODEL, &(0..2)), Part::whole(MODEL));
        for part in [first, second, first] {
            let entries = book.read().await.unwrap();
            book.put(&part, &entries).await.unwrap();
        }
        book.0.put(BOOK, "notes of somebody", b"x").await.unwrap();
        let parts = |entries: Vec<(u64, Part)>| -> Vec<Part> {
            entries.into_iter().map(|(_, part)| part).collect()
        };
        assert_eq!(parts(book.read().await.unwrap()), [second, first]);
        book.remove(&second).await.unwrap();
        assert_eq!(parts(book.read().await.unwrap()), [first]);
    }
}
