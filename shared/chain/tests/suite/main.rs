//! The rules of the chain under attack, in one test binary.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod codecs;
mod committees;
mod conformance;
mod conservation;
mod disputes;
mod float;
mod genesis;
mod lengths;
mod nodes;
mod payments;
mod places;
mod put_out;
mod queries;
mod sealed;
mod settlement;
mod shards;
mod traces;
mod transactions;
mod world;
