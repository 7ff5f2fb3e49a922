//! What a node keeps of a session so that it can defend what it computed: the inputs it was given, and the
//! client's word for them and for what it asked. From these it computes everything else again.
//!
//! Only where the user agreed that a dispute discloses a piece; encrypted on disk under the store's key;
//! within limits over all sessions, of bytes and of the time that computing them again takes: who must answer
//! within a round must be able to; erased when no dispute can ask for it any more. It is written before
//! the voucher or the commitment that it belongs to, so that what a node commits to it can also defend.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use commonware_codec::{Buf, Encode as _, EncodeSize, Error, RangeCfg, Read, ReadExt as _, Write};
use nesa_platform::storage::{StorageError, Store};
use nesa_primitives::{Hash, decode_exact};
use nesa_sealed::{message::Limits, server::Given};
use nesa_trace::End;

/// The namespace in the store.
const SPACE: &str = "shard-evidence";
/// Steps in one stored chunk, at most.
const MAX_STEPS: usize = 4096;

/// Some steps of a session, as they are stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// What inputs are salted with.
    pub salt: Hash,
    /// The shard's layers.
    pub layers: (u16, u16),
    /// Width of the rows.
    pub d_model: u16,
    /// The steps.
    pub given: Vec<Given>,
    /// The client's word for how many tokens it asked for, if it has come.
    pub end: Option<End>,
    /// How long the steps took to compute, in microseconds.
    pub took_us: u64,
}

impl Write for Kept {
    fn write(&self, buf: &mut impl bytes::BufMut) {
        self.salt.write(buf);
        self.layers.0.write(buf);
        self.layers.1.write(buf);
        self.d_model.write(buf);
        self.given.write(buf);
        self.end.write(buf);
        self.took_us.write(buf);
    }
}

impl EncodeSize for Kept {
    fn encode_size(&self) -> usize {
        32 + 6 + self.given.encode_size() + self.end.encode_size() + 8
    }
}

impl Read for Kept {
    type Cfg = ();
    fn read_cfg(buf: &mut impl Buf, _: &()) -> Result<Self, Error> {
        let salt = Hash::read(buf)?;
        let layers = (u16::read(buf)?, u16::read(buf)?);
        let d_model = u16::read(buf)?;
        let limits = Limits::of_width(d_model.into());
        let given = Vec::read_cfg(buf, &(RangeCfg::new(0..=MAX_STEPS), limits))?;
        let end = Option::read(buf)?;
        let took_us = u64::read(buf)?;
        Ok(Self { salt, layers, d_model, given, end, took_us })
    }
}

/// What is reserved and written for one session.
#[derive(Clone, Copy, Debug, Default)]
struct Share {
    bytes: usize,
    chunks: usize,
    /// How long its steps have taken to compute.
    spent: Duration,
    /// How long all of them are expected to take, while it lasts.
    expected: Duration,
}

impl Share {
    fn repeat(&self) -> Duration {
        self.spent.max(self.expected)
    }
}

/// What one more session may need.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Need {
    /// Bytes of evidence.
    pub(crate) bytes: usize,
    /// Time to compute it again.
    pub(crate) repeat: Duration,
    /// Time that computing all sessions again may take.
    pub(crate) most: Duration,
}

/// The evidence of all sessions.
pub(crate) struct Evidence {
    store: Store,
    limit: usize,
    shares: Mutex<BTreeMap<String, Share>>,
}

fn key(place: &str, chunk: usize) -> String {
    format!("{place}-{chunk}")
}

impl Evidence {
    /// Evidence of at most `limit` bytes in `store`.
    pub(crate) fn new(store: Store, limit: usize) -> Self {
        Self { store, limit, shares: Mutex::default() }
    }

    fn shares(&self) -> MutexGuard<'_, BTreeMap<String, Share>> {
        self.shares.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes room for a session, unless there is none.
    pub(crate) fn reserve(&self, place: &str, need: Need) -> bool {
        let mut shares = self.shares();
        let taken = shares.values().fold(0usize, |sum, share| sum.saturating_add(share.bytes));
        let fits = taken.saturating_add(need.bytes) <= self.limit
            && repeat(&shares).saturating_add(need.repeat) <= need.most
            && !shares.contains_key(place);
        if fits {
            let share = Share { bytes: need.bytes, expected: need.repeat, ..Share::default() };
            shares.insert(place.to_owned(), share);
        }
        fits
    }

    /// Counts what a session's next step took; `false` when computing all sessions again would take longer than
    /// `most`.
    pub(crate) fn spend(&self, place: &str, took: Duration, most: Duration) -> bool {
        let mut shares = self.shares();
        if let Some(share) = shares.get_mut(place) {
            share.spent = share.spent.saturating_add(took);
        }
        repeat(&shares) <= most
    }

    /// A session takes no more steps: it counts with what it took.
    pub(crate) fn ended(&self, place: &str) {
        if let Some(share) = self.shares().get_mut(place) {
            share.expected = Duration::ZERO;
        }
    }

    /// Writes more of a session down.
    ///
    /// # Errors
    /// [`StorageError`].
    pub(crate) async fn append(&self, place: &str, kept: &Kept) -> Result<(), StorageError> {
        if kept.given.is_empty() && kept.end.is_none() {
            return Ok(());
        }
        let chunk = self.shares().get(place).map_or(0, |share| share.chunks);
        self.store.put_secret(SPACE, &key(place, chunk), &kept.encode()).await?;
        self.shares().entry(place.to_owned()).or_default().chunks = chunk + 1;
        Ok(())
    }

    /// All that was written down of a session, in order; `None` if there is nothing, or it does not
    /// belong together.
    ///
    /// # Errors
    /// [`StorageError`], also when it was altered.
    pub(crate) async fn load(&self, place: &str) -> Result<Option<Kept>, StorageError> {
        let mut whole: Option<Kept> = None;
        for chunk in 0.. {
            let name = key(place, chunk);
            let Some(bytes) = self.store.get_secret(SPACE, &name).await? else { break };
            let Ok(kept) = decode_exact::<Kept>(&bytes, &()) else {
                return Err(StorageError::Tampered(name));
            };
            match &mut whole {
                None => whole = Some(kept),
                Some(before) => {
                    let same = (before.salt, before.layers, before.d_model);
                    if same != (kept.salt, kept.layers, kept.d_model) {
                        return Ok(None);
                    }
                    before.given.extend(kept.given);
                    before.end = kept.end.or(before.end);
                    before.took_us = before.took_us.saturating_add(kept.took_us);
                }
            }
        }
        Ok(whole)
    }

    /// Erases a session's evidence and gives its room back.
    ///
    /// # Errors
    /// [`StorageError`]; what is left is erased at the next start.
    pub(crate) async fn erase(&self, place: &str) -> Result<(), StorageError> {
        let known = self.shares().remove(place).map_or(0, |share| share.chunks);
        for chunk in 0.. {
            let name = key(place, chunk);
            if chunk >= known && self.store.get(SPACE, &name).await?.is_none() {
                return Ok(());
            }
            self.store.delete(SPACE, &name).await?;
        }
        Ok(())
    }

    /// After a start: counts what `wanted` sessions have, and erases what no other session wants.
    ///
    /// # Errors
    /// [`StorageError`].
    pub(crate) async fn recover(&self, wanted: &[String]) -> Result<(), StorageError> {
        for name in self.store.list(SPACE).await? {
            let place = name.rsplit_once('-').map_or("", |(place, _)| place);
            if !wanted.iter().any(|wanted| wanted == place) {
                self.store.delete(SPACE, &name).await?;
                continue;
            }
            let bytes = self.store.get_secret(SPACE, &name).await.unwrap_or_default();
            let bytes = bytes.unwrap_or_default();
            // One that does not decode defends nothing.
            let kept = decode_exact::<Kept>(&bytes, &()).ok();
            let took = Duration::from_micros(kept.map_or(0, |kept| kept.took_us));
            let mut shares = self.shares();
            let share = shares.entry(place.to_owned()).or_default();
            share.bytes += bytes.len();
            share.chunks += 1;
            share.spent = share.spent.saturating_add(took);
        }
        Ok(())
    }
}

/// How long computing all sessions again takes.
fn repeat(shares: &BTreeMap<String, Share>) -> Duration {
    shares.values().fold(Duration::ZERO, |sum, share| sum.saturating_add(share.repeat()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failed set-up is a failed test
mod tests {
    use super::*;
    use nesa_crypto::SecretKey;
    use nesa_sealed::message::Input;
    use proptest::prelude::*;

    fn kept(position: u32, tokens: Vec<u32>) -> Kept {
        let receipt = SecretKey::from_seed(&[9; 32]).sign("test", &Hash::ZERO, &[1]);
        let receipts = vec![receipt; tokens.len()];
        let given = Given { position, input: Input::Tokens(tokens), every: false, receipts };
        Kept {
            salt: Hash([4; 32]),
            layers: (1, 3),
            d_model: 32,
            given: vec![given],
            end: None,
            took_us: 700,
        }
    }

    fn need(bytes: usize) -> Need {
        Need { bytes, repeat: Duration::ZERO, most: Duration::from_secs(1) }
    }

    /// What must be computed again within a round is bounded over all sessions, by what is expected of those that
    /// go on and by what those that ended took, also after a start.
    #[test]
    fn no_more_is_taken_on_than_can_be_computed_again() {
        run(async {
            let store = Store::memory();
            let evidence = Evidence::new(store.clone(), 1 << 20);
            let ms = Duration::from_millis;
            let most = ms(100);
            let reserve = |of: &Evidence, place: &str, repeat| {
                of.reserve(place, Need { bytes: 1, repeat, most })
            };
            assert!(reserve(&evidence, "a-0-1", ms(60)));
            assert!(!reserve(&evidence, "b-0-1", ms(41)));
            assert!(reserve(&evidence, "b-0-1", ms(40)));
            assert!(evidence.spend("a-0-1", ms(20), most) && evidence.spend("a-0-1", ms(40), most));
            assert!(!evidence.spend("a-0-1", ms(1), most), "longer than expected");
            assert!(!evidence.spend("b-0-1", ms(2), most));
            evidence.ended("b-0-1");
            assert!(evidence.spend("a-0-1", ms(37), most), "the other took two of its forty");
            assert!(!reserve(&evidence, "c-0-1", ms(1)));
            let took = Kept { took_us: 98_000, ..kept(0, vec![1]) };
            evidence.append("a-0-1", &took).await.unwrap();
            let again = Evidence::new(store, 1 << 20);
            again.recover(&["a-0-1".to_owned()]).await.unwrap();
            assert!(!reserve(&again, "c-0-1", ms(3)) && reserve(&again, "c-0-1", ms(2)));
            again.erase("a-0-1").await.unwrap();
            assert!(reserve(&again, "d-0-1", ms(98)));
        });
    }

    fn run<T>(work: impl Future<Output = T>) -> T {
        futures::executor::block_on(work)
    }

    #[test]
    fn what_is_kept_is_bounded_survives_a_start_and_is_erased() {
        run(async {
            let store = Store::memory();
            let evidence = Evidence::new(store.clone(), 100);
            assert!(evidence.reserve("a-0-1", need(60)));
            assert!(!evidence.reserve("a-0-1", need(10)), "once a session");
            assert!(!evidence.reserve("b-0-1", need(41)), "no more than the limit");
            assert!(evidence.reserve("b-0-1", need(40)));
            evidence.append("a-0-1", &kept(0, vec![1, 2])).await.unwrap();
            evidence.append("a-0-1", &kept(2, vec![3])).await.unwrap();
            evidence.append("b-0-1", &kept(0, vec![7])).await.unwrap();
            let mut whole = kept(0, vec![1, 2]);
            whole.given.extend(kept(2, vec![3]).given);
            whole.took_us += 700;
            assert_eq!(evidence.load("a-0-1").await.unwrap(), Some(whole.clone()));

            // Started again: what a journal still wants stays, the other goes.
            let again = Evidence::new(store.clone(), 1 << 20);
            again.recover(&["a-0-1".to_owned()]).await.unwrap();
            assert_eq!(again.load("a-0-1").await.unwrap(), Some(whole));
            assert_eq!(again.load("b-0-1").await.unwrap(), None);
            again.append("a-0-1", &kept(3, vec![4])).await.unwrap();
            let signature = SecretKey::from_seed(&[9; 32]).sign("test", &Hash::ZERO, &[2]);
            let end = Some(End { tokens: 4, signature });
            let last = Kept { given: Vec::new(), end, ..kept(4, vec![]) };
            again.append("a-0-1", &last).await.unwrap();
            let whole = again.load("a-0-1").await.unwrap().unwrap();
            assert_eq!((whole.given.len(), whole.end), (3, end));
            again.erase("a-0-1").await.unwrap();
            assert!(store.list(SPACE).await.unwrap().is_empty());
            assert!(again.reserve("c-0-1", need(1 << 20)), "its room is free again");
        });
    }

    #[test]
    fn chunks_of_two_sessions_are_no_evidence() {
        run(async {
            let evidence = Evidence::new(Store::memory(), 100);
            evidence.append("a-0-1", &kept(0, vec![1])).await.unwrap();
            let other = Kept { salt: Hash([5; 32]), ..kept(1, vec![2]) };
            evidence.append("a-0-1", &other).await.unwrap();
            assert_eq!(evidence.load("a-0-1").await.unwrap(), None);
        });
    }

    proptest! {
        #[test]
        fn any_bytes_decode_or_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            if let Ok(kept) = decode_exact::<Kept>(&bytes, &()) {
                prop_assert_eq!(&kept.encode()[..], &bytes[..]);
            }
        }

        #[test]
        fn what_is_kept_decodes(position: u32, tokens in proptest::collection::vec(any::<u32>(), 0..9)) {
            let kept = kept(position, tokens);
            prop_assert_eq!(decode_exact::<Kept>(&kept.encode(), &()).unwrap(), kept);
        }
    }
}
