//! What the page knows without a browser: addresses, wording, numbers, the sample collection.
//!
//! A crate of its own so that it builds and is tested on the machine that builds the page.

pub mod format;
pub mod route;
pub mod sample;
pub mod wording;
