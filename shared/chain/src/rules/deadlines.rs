//! What happens by itself: deadline buckets and their index.
//!
//! Time is cut into buckets of `bucket_ms`. A bucket is worked off at the start of the first
//! block whose time lies beyond it, so a deadline `d` is settled after `d` and within about one
//! bucket and one block of it. An index of pages (a bit per bucket) makes long pauses cheap, and
//! a bound on entries and pages keeps the work of one block bounded; what is left over is done in
//! the next block.

use super::{BlockEnv, TxError, nodes, settle};
use crate::{
    keys::{self, Key},
    limits::{BUCKETS_PER_PAGE, MAX_BUCKET_ENTRIES, MAX_DUE_PER_BLOCK, MAX_PAGES_PER_BLOCK},
    params::Params,
    query::QueryRecord,
    record::{Bucket, BucketPage, Due, NodeRecord, Progress},
    state::{Overlay, StateError},
};
use nesa_primitives::{Address, Hash};

/// Buckets tried, from the wanted one on, for what may come a little late.
const SPILL_BUCKETS: u64 = 16;

/// What the start of a block did by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DueOutcome {
    /// Queries settled or expired.
    pub settled: Vec<Hash>,
    /// Nodes whose bond returned.
    pub released: Vec<Address>,
    /// Queries that left the state.
    pub forgotten: Vec<Hash>,
}

/// Puts something into the bucket of `at_ms`.
pub(super) fn schedule(
    overlay: &mut Overlay<'_>,
    params: &Params,
    at_ms: u64,
    due: Due,
) -> Result<(), TxError> {
    let number = at_ms / params.bucket_ms.max(1);
    if put(overlay, number, due)? {
        return Ok(());
    }
    Err(TxError::Full {
        what: "deadlines in this span of time",
        got: MAX_BUCKET_ENTRIES,
        max: MAX_BUCKET_ENTRIES,
    })
}

/// Puts something into the first bucket with room at or soon after `at_ms`. If there is none
/// nearby, a `Forget` is dropped (the record stays, which harms nobody); anything else is an
/// error.
pub(super) fn schedule_near(
    overlay: &mut Overlay<'_>,
    params: &Params,
    at_ms: u64,
    due: Due,
) -> Result<(), TxError> {
    let number = at_ms / params.bucket_ms.max(1);
    for later in 0..SPILL_BUCKETS {
        if put(overlay, number.saturating_add(later), due)? {
            return Ok(());
        }
    }
    if matches!(due, Due::Forget(_)) {
        return Ok(());
    }
    Err(TxError::Full {
        what: "deadlines in this span of time",
        got: MAX_BUCKET_ENTRIES,
        max: MAX_BUCKET_ENTRIES,
    })
}

fn put(overlay: &mut Overlay<'_>, number: u64, due: Due) -> Result<bool, TxError> {
    let page_key = keys::bucket_page(number / BUCKETS_PER_PAGE);
    overlay.require([keys::bucket(number), page_key])?;
    let mut bucket: Bucket = overlay.find(&keys::bucket(number))?.unwrap_or_default();
    if bucket.due.len() >= MAX_BUCKET_ENTRIES {
        return Ok(false);
    }
    if bucket.due.is_empty() {
        let mut page: BucketPage = overlay.find(&page_key)?.unwrap_or_default();
        page.set(number % BUCKETS_PER_PAGE, true);
        overlay.store(page_key, &page)?;
    }
    bucket.due.push(due);
    overlay.store(keys::bucket(number), &bucket)?;
    Ok(true)
}

/// Works off what fell due, within the bounds of one block.
pub(super) fn work_off(overlay: &mut Overlay<'_>, env: &BlockEnv) -> Result<DueOutcome, TxError> {
    overlay.require([keys::params(), keys::progress()])?;
    let params: Params = overlay.load("params", &keys::params())?;
    let before: Progress = overlay.load("progress", &keys::progress())?;
    let mut progress = before;
    // Buckets below this one lie wholly in the past.
    let now = env.timestamp_ms / params.bucket_ms.max(1);
    let mut outcome = DueOutcome::default();
    let (mut budget, mut pages) = (MAX_DUE_PER_BLOCK, MAX_PAGES_PER_BLOCK);
    while progress.next_bucket < now && budget > 0 && pages > 0 {
        let page_number = progress.next_bucket / BUCKETS_PER_PAGE;
        let page_key = keys::bucket_page(page_number);
        let mut page: BucketPage = overlay.find(&page_key)?.unwrap_or_default();
        let place = page.first_from(progress.next_bucket % BUCKETS_PER_PAGE);
        let first = place.map(|place| page_number * BUCKETS_PER_PAGE + place);
        let Some(number) = first.filter(|number| *number < now) else {
            progress.next_bucket = now.min((page_number + 1) * BUCKETS_PER_PAGE);
            pages -= 1;
            continue;
        };
        let left = work_off_bucket(overlay, env, &params, number, &mut budget, &mut outcome)?;
        progress.next_bucket = number;
        if left == 0 {
            page = overlay.find(&page_key)?.unwrap_or_default();
            page.set(number % BUCKETS_PER_PAGE, false);
            if page.is_empty() {
                overlay.delete(page_key);
            } else {
                overlay.store(page_key, &page)?;
            }
            progress.next_bucket = number.saturating_add(1);
        }
    }
    if progress != before {
        overlay.store(keys::progress(), &progress)?;
    }
    Ok(outcome)
}

/// Handles up to `budget` entries of a bucket and returns how many are left in it.
fn work_off_bucket(
    overlay: &mut Overlay<'_>,
    env: &BlockEnv,
    params: &Params,
    number: u64,
    budget: &mut usize,
    outcome: &mut DueOutcome,
) -> Result<usize, TxError> {
    let key = keys::bucket(number);
    let mut bucket: Bucket = overlay.find(&key)?.unwrap_or_default();
    let rest = bucket.due.split_off(bucket.due.len().min(*budget));
    prefetch(overlay, &bucket.due)?;
    for due in &bucket.due {
        match due {
            Due::Settle(query) => {
                if settle::settle(overlay, env, params, query)? {
                    outcome.settled.push(*query);
                }
            }
            Due::Release(node) => {
                nodes::release(overlay, node)?;
                outcome.released.push(*node);
            }
            Due::Forget(query) => {
                overlay.delete(keys::query(query));
                outcome.forgotten.push(*query);
            }
        }
    }
    *budget -= bucket.due.len();
    if rest.is_empty() {
        overlay.delete(key);
        return Ok(0);
    }
    let left = rest.len();
    overlay.store(key, &Bucket { due: rest })?;
    Ok(left)
}

/// Names all missing keys of a batch in two rounds instead of one per entry.
fn prefetch(overlay: &Overlay<'_>, due: &[Due]) -> Result<(), StateError> {
    let first = due.iter().map(|due| -> Key {
        match due {
            Due::Settle(query) | Due::Forget(query) => keys::query(query),
            Due::Release(node) => keys::node(node),
        }
    });
    overlay.require(first)?;
    let mut second = Vec::new();
    for due in due {
        match due {
            Due::Settle(query) => {
                if let Some(record) = overlay.find::<QueryRecord>(&keys::query(query))? {
                    second.extend(settle::touches(&record));
                }
            }
            Due::Release(node) => {
                if let Some(record) = overlay.find::<NodeRecord>(&keys::node(node))? {
                    second.push(keys::account(&record.operator));
                }
            }
            Due::Forget(_) => {}
        }
    }
    overlay.require(second)?;
    Ok(())
}
