//! Signatures, the mask PRG, Merkle trees and weighted sampling; randomness is always passed in.
