//! Attacks on traces and disputes.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod asked;
mod codecs;
mod disputes;
mod honest;
mod strategies;
mod support;
