//! The light client: header sync, proofs, the query client and receipts, native and in the browser.
