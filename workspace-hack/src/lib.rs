//! Gives every cargo invocation in this workspace the same dependency features.
//!
//! Cargo unifies features over the packages named on the command line only, so `-p nesa-model` and
//! `-p nesa` would each compile their own copy of the large dependencies. `nesa-primitives`, which
//! everything depends on, names this crate; it holds the union and no code.
