//! Frames, protocol identifiers and the messages peers exchange.
