//! What went wrong, in the four parts a person needs.

use serde::{Deserialize, Serialize};

/// A failure as it is shown: what happened, what was got and expected, and what to do next.
///
/// Lane rejections stay opaque here too: `what` never says whether the range check or the Freivalds
/// check refused a product.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Problem {
    /// A stable name for tests and support, in kebab case: `no-peers`, `not-enough-funds`.
    pub code: String,
    /// One sentence in plain words.
    pub what: String,
    /// What arrived, where that can be said.
    pub got: Option<String>,
    /// What was expected instead.
    pub expected: Option<String>,
    /// What the user can do now.
    pub next_step: String,
}

impl Problem {
    /// A problem without got/expected.
    pub fn new(code: &str, what: impl Into<String>, next_step: impl Into<String>) -> Self {
        Self {
            code: code.to_owned(),
            what: what.into(),
            got: None,
            expected: None,
            next_step: next_step.into(),
        }
    }

    /// Adds what was got and what was expected.
    #[must_use]
    pub fn with(mut self, got: impl Into<String>, expected: impl Into<String>) -> Self {
        self.got = Some(got.into());
        self.expected = Some(expected.into());
        self
    }
}
