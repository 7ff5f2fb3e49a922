//! Checks certificates, seeds, state proofs and receipts; everything a client must verify is a pure function here.
