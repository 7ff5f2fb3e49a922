//! Attacks on the lane. Each promise has a test that the honest implementation passes, and mutants
//! of the implementation (or of the adversary) that the same test must catch.

mod bits;
mod blame;
mod harness;
mod money;
mod opening;
mod preparer;
mod secrets;
mod soundness;
mod toy;
mod traces;
mod views;
