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
mod tests;
