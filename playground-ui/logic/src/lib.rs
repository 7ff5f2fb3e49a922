//! What the page knows without a browser: addresses, wording, numbers, markdown, a drawing, classes, the
//! branches of a conversation, the sample collection.
//!
//! A crate of its own so that it builds and is tested on the machine that builds the page.

pub mod classes;
pub mod digit;
pub mod float;
pub mod format;
pub mod licence;
pub mod markdown;
pub mod route;
pub mod sample;
pub mod sealed;
pub mod transcript;
pub mod wording;
