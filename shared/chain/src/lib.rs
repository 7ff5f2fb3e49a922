//! Transactions, headers and the pure state-transition rules of the chain.
