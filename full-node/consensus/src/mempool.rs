//! Transactions waiting for a block: bounded, in nonce order per sender, best fee first.
//!
//! The pool is a plain data structure without a clock or a lock of its own. It never judges a
//! transaction against the state; whoever inserts has done so, and the proposer does it again.

use nesa_chain::tx::SignedTx;
use nesa_primitives::{Address, Amount, Hash};
use std::{
    collections::{BTreeMap, BinaryHeap, HashSet},
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
    /// Milliseconds after which a transaction that no block took is forgotten.
    pub age_ms: u64,
    /// Proposals a transaction may spoil before it is forgotten.
    pub failures: u8,
}

impl Default for Limits {
    fn default() -> Self {
        Self { transactions: 8192, bytes: 8 << 20, per_sender: 64, age_ms: 600_000, failures: 8 }
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
    /// Another transaction with its nonce waits and pays no less.
    #[error("another transaction of this sender with nonce {nonce} waits; pay more to replace it")]
    Underpriced {
        /// The nonce.
        nonce: u64,
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

/// The pool.
#[derive(Debug, Default)]
pub struct Mempool {
    limits: Limits,
    senders: BTreeMap<Address, BTreeMap<u64, Entry>>,
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

    /// The transactions of one sender that wait, in nonce order.
    pub fn of_sender(&self, sender: &Address) -> Vec<Arc<SignedTx>> {
        self.senders.get(sender).into_iter().flatten().map(|(_, e)| e.tx.clone()).collect()
    }

    /// Adds a transaction whose sender's account is at `nonce`. `bytes` is its encoded size.
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
        if got < nonce {
            return Err(Refused::Stale { got, expected: nonce });
        }
        if got - nonce >= self.limits.per_sender {
            return Err(Refused::TooFar { got, expected: nonce });
        }
        let taken = self.senders.get(&sender).and_then(|queue| queue.get(&got));
        if taken.is_some_and(|entry| entry.tx.tx.fee >= fee) {
            return Err(Refused::Underpriced { nonce: got });
        }
        if taken.is_some() {
            self.remove(&sender, got);
        }
        while self.ids.len() >= self.limits.transactions || self.bytes + bytes > self.limits.bytes {
            let (cheapest, victim) = self.cheapest().ok_or(Refused::Full)?;
            if cheapest >= fee || victim.0 == sender {
                return Err(Refused::Full);
            }
            self.remove(&victim.0, victim.1);
        }
        let entry = Entry { id, tx: Arc::new(tx), bytes, since_ms: now_ms, failures: 0 };
        self.senders.entry(sender).or_default().insert(got, entry);
        self.ids.insert(id);
        self.bytes += bytes;
        Ok(id)
    }

    /// The lowest fee among the last transactions of all senders: removing one leaves no gap.
    fn cheapest(&self) -> Option<(Amount, (Address, u64))> {
        self.senders
            .iter()
            .filter_map(|(sender, queue)| {
                queue.last_key_value().map(|(nonce, e)| (e.tx.tx.fee, (*sender, *nonce)))
            })
            .min()
    }

    fn remove(&mut self, sender: &Address, nonce: u64) {
        let Some(queue) = self.senders.get_mut(sender) else { return };
        if let Some(entry) = queue.remove(&nonce) {
            self.ids.remove(&entry.id);
            self.bytes -= entry.bytes;
        }
        if queue.is_empty() {
            self.senders.remove(sender);
        }
    }

    /// Forgets what a finalized block made stale, and what has waited too long.
    ///
    /// `included` holds sender and nonce of the block's transactions.
    pub fn finalized(&mut self, included: impl IntoIterator<Item = (Address, u64)>, now_ms: u64) {
        for (sender, nonce) in included {
            let stale: Vec<u64> = self
                .senders
                .get(&sender)
                .into_iter()
                .flat_map(|queue| queue.range(..=nonce).map(|(nonce, _)| *nonce))
                .collect();
            for nonce in stale {
                self.remove(&sender, nonce);
            }
        }
        let oldest = now_ms.saturating_sub(self.limits.age_ms);
        let expired: Vec<(Address, u64)> = self
            .senders
            .iter()
            .flat_map(|(sender, queue)| queue.iter().map(|(nonce, e)| (*sender, *nonce, e)))
            .filter(|(_, _, entry)| entry.since_ms < oldest)
            .map(|(sender, nonce, _)| (sender, nonce))
            .collect();
        for (sender, nonce) in expired {
            self.remove(&sender, nonce);
        }
    }

    /// Notes that a transaction could not be applied on top of a proposal.
    pub fn failed(&mut self, tx: &SignedTx) {
        let (sender, nonce) = (tx.tx.sender, tx.tx.nonce);
        let Some(entry) = self.senders.get_mut(&sender).and_then(|queue| queue.get_mut(&nonce))
        else {
            return;
        };
        entry.failures = entry.failures.saturating_add(1);
        if entry.failures >= self.limits.failures {
            self.remove(&sender, nonce);
        }
    }

    /// The waiting transactions in the order in which a proposer should try them.
    pub fn select(&self) -> Selection {
        let mut queues: BTreeMap<Address, std::vec::IntoIter<Arc<SignedTx>>> = BTreeMap::new();
        let mut heads = BinaryHeap::new();
        for (sender, queue) in &self.senders {
            let mut queue = queue.values().map(|e| e.tx.clone()).collect::<Vec<_>>().into_iter();
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
        let head = self.heads.pop()?;
        self.offered = Some(head.tx.0.tx.sender);
        Some(head.tx.0)
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
    use nesa_chain::{Action, Tx, action::Transfer};
    use nesa_crypto::SecretKey;
    use nesa_primitives::Denom;

    fn tx(sender: u8, nonce: u64, fee: u64) -> SignedTx {
        let key = SecretKey::from_seed(&[sender; 32]);
        let to = key.public();
        let action = Action::Transfer(Transfer { to, denom: Denom::NES, amount: Amount(1) });
        Tx { chain: Hash::ZERO, sender: key.public(), nonce, fee: Amount(fee), action }.sign(&key)
    }

    fn pool(transactions: usize) -> Mempool {
        Mempool::new(Limits { transactions, per_sender: 4, failures: 2, ..Limits::default() })
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
        pool.finalized([(tx(1, 1, 10).tx.sender, 1)], 1_000);
        assert_eq!(pool.len(), 2, "nonces 0 and 1 of the sender are used");
        pool.failed(&tx(2, 0, 10));
        assert_eq!(pool.len(), 2);
        pool.failed(&tx(2, 0, 10));
        assert_eq!(pool.len(), 1, "spoiled two proposals");
        pool.finalized([], 700_000);
        assert!(pool.is_empty() && pool.bytes() == 0, "waited too long");
    }
}
