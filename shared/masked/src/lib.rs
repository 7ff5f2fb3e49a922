//! The masked lane: additive shares, Freivalds checks and the sans-I/O client and server.
