//! Signatures, sealed envelopes, the mask PRG, Merkle trees and weighted sampling; randomness is always passed in.

#![deny(missing_docs)]

pub mod merkle;
pub mod prg;
pub mod sampling;
pub mod seal;
pub mod sign;

pub use sign::{PublicKey, SecretKey, Signature};
