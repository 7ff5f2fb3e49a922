//! Transactions waiting for a block: bounded, in nonce order per sender, best fee first.
//!
//! What has a [`Place`] in a dispute waits for no nonce and holds none up: its sender's other transactions
//! may be lost, stuck or many.
//!
//! The pool is a plain data structure without a clock or a lock of its own. It never judges a
//! transaction against the state; whoever inserts has done so, and the proposer does it again.

use nesa_chain::{action::Place, tx::SignedTx};
use nesa_primitives::{Address, Amount, Hash};
use std::{
    collections::{BTreeMap, BinaryHeap, HashSet},
    ops::Bound,
    sync::Arc,
};

/// How much may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Transactions in all.
    pub transactions: usize,
    /// Encoded bytes in all.
    pub bytes: usize,
    /// Transactions of one sender, which is also how far a nonce may run ahead of the account's.
    pub per_sender: u64,
    /// Transactions of one sender that have a place in a dispute, beside those.
    pub placed_per_sender: usize,
    /// Milliseconds after which a transaction that no block took is forgotten.
    pub age_ms: u64,
    /// Proposals a transaction may spoil before it is forgotten.
    pub failures: u8,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            transactions: 8192,
            bytes: 8 << 20,
            per_sender: 64,
            placed_per_sender: 256,
            age_ms: 600_000,
            failures: 8,
        }
    }
}

/// Why a transaction may not wait here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It already waits.
    #[error("transaction {0} is already waiting")]
    Duplicate(Hash),
    /// Its nonce was used.
    #[error("nonce {got} was used: the account is at {expected}")]
    Stale {
        /// Nonce of the transaction.
        got: u64,
        /// Next nonce of the account.
        expected: u64,
    },
    /// Its nonce is too far ahead.
    #[error("nonce {got} is too far ahead of the account's {expected}")]
    TooFar {
        /// Nonce of the transaction.
        got: u64,
        /// Next nonce of the account.
        expected: u64,
    },
    /// Another transaction with its nonce or in its place waits and pays no less.
    #[error("another transaction of this sender with nonce {nonce} waits; pay more to replace it")]
    Underpriced {
        /// The nonce; 0 of what has a place.
        nonce: u64,
    },
    /// Its sender has said as much as may wait.
    #[error("{got} transactions of this sender wait in disputes, at most {max} may")]
    Placed {
        /// How many wait.
        got: usize,
        /// How many may.
        max: usize,
    },
    /// The pool is full of transactions that pay no less.
    #[error("the pool is full")]
    Full,
}

#[derive(Clone, Debug)]
struct Entry {
    id: Hash,
    tx: Arc<SignedTx>,
    bytes: usize,
    since_ms: u64,
    failures: u8,
}

/// Where a transaction of a sender waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Slot {
    /// Behind those with smaller nonces.
    Nonce(u64),
    /// Behind nothing.
    Place(Place),
}

impl Slot {
    fn of(tx: &SignedTx) -> Self {
        tx.tx.action.place().map_or(Self::Nonce(tx.tx.nonce), Self::Place)
    }
}

/// One sender's, those with nonces first.
type Queue = BTreeMap<Slot, Entry>;

fn by_nonce(queue: &Queue) -> impl DoubleEndedIterator<Item = (&Slot, &Entry)> {
    queue.range(..=Slot::Nonce(u64::MAX))
}

/// The pool.
#[derive(Debug, Default)]
pub struct Mempool {
    limits: Limits,
    senders: BTreeMap<Address, Queue>,
    ids: HashSet<Hash>,
    bytes: usize,
}

impl Mempool {
    /// An empty pool with these limits.
    pub fn new(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Transactions waiting.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Encoded bytes waiting.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether this transaction waits.
    pub fn contains(&self, id: &Hash) -> bool {
        self.ids.contains(id)
    }

    /// The transactions of one sender that wait for their nonces, in that order.
    pub fn of_sender(&self, sender: &Address) -> Vec<Arc<SignedTx>> {
        let queue = self.senders.get(sender).into_iter();
        queue.flat_map(by_nonce).map(|(_, entry)| entry.tx.clone()).collect()
    }

    /// Adds a transaction whose sender's account is at `nonce`, which says nothing to one that has a place.
    /// `bytes` is its encoded size.
    ///
    /// # Errors
    /// [`Refused`]; the pool is then unchanged.
    pub fn insert(
        &mut self,
        tx: SignedTx,
        bytes: usize,
        nonce: u64,
        now_ms: u64,
    ) -> Result<Hash, Refused> {
        let id = tx.id();
        let (sender, got, fee) = (tx.tx.sender, tx.tx.nonce, tx.tx.fee);
        if self.ids.contains(&id) {
            return Err(Refused::Duplicate(id));
        }
        let slot = Slot::of(&tx);
        let queue = self.senders.get(&sender);
        let taken = queue.and_then(|queue| queue.get(&slot));
        match slot {
            Slot::Nonce(_) if got < nonce => {
                return Err(Refused::Stale { got, expected: nonce });
            }
            Slot::Nonce(_) if got - nonce >= self.limits.per_sender => {
                return Err(Refused::TooFar { got, expected: nonce });
            }
            Slot::Place(_) if taken.is_none() => {
                let got = queue.map_or(0, |queue| queue.len() - by_nonce(queue).count());
                let max = self.limits.placed_per_sender;
                if got >= max {
                    return Err(Refused::Placed { got, max });
                }
            }
            _ => {}
        }
        if taken.is_some_and(|entry| entry.tx.tx.fee >= fee) {
            return Err(Refused::Underpriced { nonce: got });
        }
        if taken.is_some() {
            self.remove(&sender, slot);
        }
        while self.ids.len() >= self.limits.transactions || self.bytes + bytes > self.limits.bytes {
            let (cheapest, victim) = self.cheapest().ok_or(Refused::Full)?;
            if cheapest >= fee || victim.0 == sender {
                return Err(Refused::Full);
            }
            self.remove(&victim.0, victim.1);
        }
        let entry = Entry { id, tx: Arc::new(tx), bytes, since_ms: now_ms, failures: 0 };
        self.senders.entry(sender).or_default().insert(slot, entry);
        self.ids.insert(id);
        self.bytes += bytes;
        Ok(id)
    }

    /// The lowest fee among the last transactions of all senders, and all that have a place: removing one
    /// leaves no gap.
    fn cheapest(&self) -> Option<(Amount, (Address, Slot))> {
        let ends = self.senders.iter().flat_map(|(sender, queue)| {
            let placed = queue.range((Bound::Excluded(Slot::Nonce(u64::MAX)), Bound::Unbounded));
            by_nonce(queue).next_back().into_iter().chain(placed).map(move |at| (sender, at))
        });
        ends.map(|(sender, (slot, entry))| (entry.tx.tx.fee, (*sender, *slot))).min()
    }

    fn remove(&mut self, sender: &Address, slot: Slot) {
        let Some(queue) = self.senders.get_mut(sender) else { return };
        if let Some(entry) = queue.remove(&slot) {
            self.ids.remove(&entry.id);
            self.bytes -= entry.bytes;
        }
        if queue.is_empty() {
            self.senders.remove(sender);
        }
    }

    /// Forgets what the transactions of a finalized block made stale, and what has waited too long.
    pub fn finalized<'a>(&mut self, included: impl IntoIterator<Item = &'a SignedTx>, now_ms: u64) {
        for tx in included {
            let sender = tx.tx.sender;
            let last = Slot::of(tx);
            let stale: Vec<Slot> = match (self.senders.get(&sender), last) {
                (None, _) => continue,
                (Some(_), Slot::Place(_)) => vec![last],
                (Some(queue), Slot::Nonce(_)) => queue.range(..=last).map(|(s, _)| *s).collect(),
            };
            for slot in stale {
                self.remove(&sender, slot);
            }
        }
        let oldest = now_ms.saturating_sub(self.limits.age_ms);
        let expired: Vec<(Address, Slot)> = self
            .senders
            .iter()
            .flat_map(|(sender, queue)| queue.iter().map(|(slot, e)| (*sender, *slot, e)))
            .filter(|(_, _, entry)| entry.since_ms < oldest)
            .map(|(sender, slot, _)| (sender, slot))
            .collect();
        for (sender, slot) in expired {
            self.remove(&sender, slot);
        }
    }

    /// Notes that a transaction could not be applied on top of a proposal.
    pub fn failed(&mut self, tx: &SignedTx) {
        let (sender, slot) = (tx.tx.sender, Slot::of(tx));
        let Some(entry) = self.senders.get_mut(&sender).and_then(|queue| queue.get_mut(&slot))
        else {
            return;
        };
        entry.failures = entry.failures.saturating_add(1);
        if entry.failures >= self.limits.failures {
            self.remove(&sender, slot);
        }
    }

    /// The waiting transactions in the order in which a proposer should try them.
    pub fn select(&self) -> Selection {
        let mut queues: BTreeMap<Address, std::vec::IntoIter<Arc<SignedTx>>> = BTreeMap::new();
        let mut heads = BinaryHeap::new();
        for (sender, queue) in &self.senders {
            let placed = queue.range((Bound::Excluded(Slot::Nonce(u64::MAX)), Bound::Unbounded));
            heads.extend(placed.map(|(_, entry)| Head::new(entry.tx.clone())));
            let queue: Vec<_> = by_nonce(queue).map(|(_, entry)| entry.tx.clone()).collect();
            let mut queue = queue.into_iter();
            if let Some(head) = queue.next() {
                heads.push(Head::new(head));
                queues.insert(*sender, queue);
            }
        }
        Selection { heads, queues, offered: None }
    }
}

/// A sender's next transaction: ordered by fee, then against the digest so that ties are fair.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Head {
    fee: Amount,
    tie: Hash,
    tx: ByIdentity,
}

impl Head {
    fn new(tx: Arc<SignedTx>) -> Self {
        Self { fee: tx.tx.fee, tie: tx.id(), tx: ByIdentity(tx) }
    }
}

/// Takes no part in the order: equal digests are equal transactions.
#[derive(Debug)]
struct ByIdentity(Arc<SignedTx>);

impl PartialEq for ByIdentity {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}
impl Eq for ByIdentity {}
impl PartialOrd for ByIdentity {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for ByIdentity {
    fn cmp(&self, _: &Self) -> std::cmp::Ordering {
        std::cmp::Ordering::Equal
    }
}

/// A snapshot of the pool, offered transaction by transaction.
///
/// A sender's next transaction is offered only after [`Selection::accept`]: once one fails, what
/// follows it cannot apply either.
#[derive(Debug)]
pub struct Selection {
    heads: BinaryHeap<Head>,
    queues: BTreeMap<Address, std::vec::IntoIter<Arc<SignedTx>>>,
    offered: Option<Address>,
}

impl Selection {
    /// The next transaction to try.
    pub fn offer(&mut self) -> Option<Arc<SignedTx>> {
        let tx = self.heads.pop()?.tx.0;
        // Nothing waits for what has a place.
        self.offered = tx.tx.action.place().is_none().then_some(tx.tx.sender);
        Some(tx)
    }

    /// The transaction offered last was taken.
    pub fn accept(&mut self) {
        let next = self
            .offered
            .take()
            .and_then(|sender| self.queues.get_mut(&sender))
            .and_then(Iterator::next);
        if let Some(next) = next {
            self.heads.push(Head::new(next));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nesa_chain::{
        Action, Tx,
        action::{AnswerDispute, Pair, Transfer},
    };
    use nesa_crypto::SecretKey;
    use nesa_primitives::Denom;
    use nesa_trace::Answer;
    use proptest::prelude::*;

    fn tx(sender: u8, nonce: u64, fee: u64) -> SignedTx {
        let key = SecretKey::from_seed(&[sender; 32]);
        let to = key.public();
        let action = Action::Transfer(Transfer { to, denom: Denom::NES, amount: Amount(1) });
        Tx { chain: Hash::ZERO, sender: key.public(), nonce, fee: Amount(fee), action }.sign(&key)
    }

    fn pool(transactions: usize) -> Mempool {
        Mempool::new(Limits {
            transactions,
            per_sender: 4,
            placed_per_sender: 4,
            failures: 2,
            ..Limits::default()
        })
    }

    fn offered(pool: &Mempool) -> Vec<(u64, u64)> {
        let mut selection = pool.select();
        std::iter::from_fn(|| {
            let tx = selection.offer()?;
            selection.accept();
            Some((tx.tx.fee.0, tx.tx.nonce))
        })
        .collect()
    }

    #[test]
    fn best_fee_first_but_nonces_in_order() {
        let mut pool = pool(16);
        for (sender, nonce, fee) in [(1, 1, 99), (1, 0, 10), (2, 0, 50), (2, 1, 40), (3, 0, 20)] {
            pool.insert(tx(sender, nonce, fee), 100, 0, 0).unwrap();
        }
        assert_eq!(offered(&pool), [(50, 0), (40, 1), (20, 0), (10, 0), (99, 1)]);
        assert_eq!((pool.len(), pool.bytes()), (5, 500));
        // What follows a transaction that fails is not offered.
        let mut selection = pool.select();
        assert_eq!(selection.offer().unwrap().tx.fee, Amount(50));
        assert_eq!(selection.offer().unwrap().tx.fee, Amount(20));
    }

    #[test]
    fn duplicates_stale_far_and_underpriced_are_refused_and_a_better_fee_replaces() {
        let mut pool = pool(16);
        let id = pool.insert(tx(1, 5, 10), 100, 5, 0).unwrap();
        assert_eq!(pool.insert(tx(1, 5, 10), 100, 5, 0), Err(Refused::Duplicate(id)));
        assert_eq!(
            pool.insert(tx(1, 4, 10), 100, 5, 0),
            Err(Refused::Stale { got: 4, expected: 5 })
        );
        assert_eq!(
            pool.insert(tx(1, 9, 10), 100, 5, 0),
            Err(Refused::TooFar { got: 9, expected: 5 })
        );
        assert_eq!(pool.insert(tx(1, 5, 9), 100, 5, 0), Err(Refused::Underpriced { nonce: 5 }));
        let better = pool.insert(tx(1, 5, 11), 100, 5, 0).unwrap();
        assert!(pool.contains(&better) && !pool.contains(&id) && pool.len() == 1);
    }

    fn answer(sender: u8, right: u8, round: u8, fee: u64) -> SignedTx {
        let pair = Pair { query: Hash([4; 32]), shard: 0, left: 0, right };
        let action =
            Action::AnswerDispute(AnswerDispute { pair, round, answer: Answer::Nodes(vec![]) });
        let SignedTx { tx, .. } = tx(sender, 0, fee);
        Tx { action, ..tx }.sign(&SecretKey::from_seed(&[sender; 32]))
    }

    #[test]
    fn what_has_a_place_waits_for_nothing_and_holds_nothing_up() {
        let mut pool = pool(64);
        // The sender's nonces are stuck: 5 is lost, 6 and 7 wait for it; and its queue is full.
        for nonce in 6..9 {
            pool.insert(tx(1, nonce, 99), 100, 5, 0).unwrap();
        }
        let answers = [(1, 0, 10), (2, 0, 10), (2, 1, 10), (3, 0, 10)];
        for (right, round, fee) in answers {
            pool.insert(answer(1, right, round, fee), 100, 5, 0).unwrap();
        }
        assert_eq!(pool.of_sender(&tx(1, 0, 0).tx.sender).len(), 3);
        let mut selection = pool.select();
        assert_eq!(selection.offer().unwrap().tx.nonce, 6, "the best fee, which does not apply");
        let placed: Vec<_> = std::iter::from_fn(|| selection.offer()).collect();
        assert_eq!(placed.len(), 4, "all four, though what was offered first was not taken");

        // One for each place: a better fee replaces it, an equal one does not.
        let again = pool.insert(answer(1, 2, 1, 10), 100, 5, 0);
        assert!(matches!(again, Err(Refused::Duplicate(_))));
        assert_eq!(
            pool.insert(answer(1, 2, 1, 9), 100, 5, 0),
            Err(Refused::Underpriced { nonce: 0 })
        );
        pool.insert(answer(1, 2, 1, 20), 100, 5, 0).unwrap();
        assert_eq!(pool.len(), 7);
        let fifth = pool.insert(answer(1, 4, 0, 99), 100, 5, 0);
        assert_eq!(fifth, Err(Refused::Placed { got: 4, max: 4 }));
        // Somebody else's place of that name is another one.
        pool.insert(answer(2, 2, 1, 10), 100, 0, 0).unwrap();
        pool.finalized([&answer(1, 2, 1, 10)], 1_000);
        assert_eq!(pool.len(), 7, "what is in a block waits no more, whatever it paid");
        pool.finalized([&tx(1, 8, 10)], 1_000);
        assert_eq!(pool.len(), 4, "a nonce says nothing of places");
        for _ in 0..2 {
            pool.failed(&answer(1, 1, 0, 10));
        }
        assert_eq!(pool.len(), 3);
    }

    proptest! {
        /// Whatever comes and goes, the pool counts right, stays within its bounds, and offers nonces of
        /// a sender in order and everything that has a place.
        #[test]
        fn counts_and_order_hold(
            ops in prop::collection::vec((0u8..4, 1u8..4, 0u8..6, 1u64..40), 1..120)
        ) {
            let mut pool = Mempool::new(Limits {
                transactions: 12, bytes: 1_000, per_sender: 4, placed_per_sender: 3, failures: 2,
                ..Limits::default()
            });
            for (what, sender, at, fee) in ops {
                let nonced = tx(sender, u64::from(at), fee);
                match what {
                    0 => drop(pool.insert(nonced, 100, 0, 0)),
                    1 => drop(pool.insert(answer(sender, 1, at, fee), 100, 0, 0)),
                    2 => pool.failed(&answer(sender, 1, at, fee)),
                    _ => pool.finalized([&nonced, &answer(sender, 1, at, fee)], 0),
                }
                prop_assert!(pool.len() <= 10 && pool.bytes() == 100 * pool.len());
                let held: usize = pool.senders.values().map(BTreeMap::len).sum();
                prop_assert_eq!(held, pool.len());
                for queue in pool.senders.values() {
                    prop_assert!(!queue.is_empty() && by_nonce(queue).count() <= 4);
                    prop_assert!(queue.len() - by_nonce(queue).count() <= 3);
                }
            }
            let mut selection = pool.select();
            let mut next = BTreeMap::new();
            let mut offered = 0;
            while let Some(tx) = selection.offer() {
                offered += 1;
                if tx.tx.action.place().is_none() {
                    let last = next.insert(tx.tx.sender, tx.tx.nonce);
                    prop_assert!(last.is_none_or(|last| last < tx.tx.nonce));
                }
                selection.accept();
            }
            prop_assert_eq!(offered, pool.len());
        }
    }

    #[test]
    fn a_full_pool_keeps_what_pays_most() {
        let mut pool = pool(3);
        for sender in 1..=3 {
            pool.insert(tx(sender, 0, 10 * u64::from(sender)), 100, 0, 0).unwrap();
        }
        assert_eq!(pool.insert(tx(4, 0, 10), 100, 0, 0), Err(Refused::Full));
        pool.insert(tx(4, 0, 11), 100, 0, 0).unwrap();
        assert_eq!(offered(&pool), [(30, 0), (20, 0), (11, 0)]);
    }

    #[test]
    fn blocks_failures_and_time_empty_the_pool() {
        let mut pool = pool(16);
        for nonce in 0..3 {
            pool.insert(tx(1, nonce, 10), 100, 0, 0).unwrap();
        }
        pool.insert(tx(2, 0, 10), 100, 0, 1_000_000).unwrap();
        pool.finalized([&tx(1, 1, 10)], 1_000);
        assert_eq!(pool.len(), 2, "nonces 0 and 1 of the sender are used");
        pool.failed(&tx(2, 0, 10));
        assert_eq!(pool.len(), 2);
        pool.failed(&tx(2, 0, 10));
        assert_eq!(pool.len(), 1, "spoiled two proposals");
        pool.finalized([], 700_000);
        assert!(pool.is_empty() && pool.bytes() == 0, "waited too long");
    }
}
