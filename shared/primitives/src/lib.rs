//! Hashes, amounts, addresses, domains and verdicts shared by every other crate.
