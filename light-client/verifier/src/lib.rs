//! The smallest browser verifier: header certificates, seeds, state proofs and receipts.
