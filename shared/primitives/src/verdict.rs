//! The three-valued answer of every chain check.

use std::fmt;

/// What a check of chain data found.
///
/// Only [`Verdict::Invalid`] costs a peer its reputation: what cannot be decided yet may well be
/// honest. Rejections inside a lane are *not* verdicts; they are one opaque code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict<T> {
    /// The claim holds; here is what it proves.
    Valid(T),
    /// The claim is false, whoever made it.
    Invalid {
        /// What was checked, in a few words.
        what: &'static str,
        /// What the claim said.
        got: String,
        /// What it had to say.
        expected: String,
    },
    /// More data is needed before the claim can be judged.
    Undecided {
        /// What is missing.
        missing: String,
    },
}

impl<T> Verdict<T> {
    /// An [`Verdict::Invalid`] from anything that can be shown.
    pub fn invalid(
        what: &'static str,
        got: impl fmt::Display,
        expected: impl fmt::Display,
    ) -> Self {
        Self::Invalid { what, got: got.to_string(), expected: expected.to_string() }
    }

    /// An [`Verdict::Undecided`] from anything that can be shown.
    pub fn undecided(missing: impl fmt::Display) -> Self {
        Self::Undecided { missing: missing.to_string() }
    }

    /// `Valid(())` if the two are equal, otherwise invalid with both shown.
    pub fn equal<V: PartialEq + fmt::Display>(
        what: &'static str,
        got: V,
        expected: V,
    ) -> Verdict<()> {
        if got == expected { Verdict::Valid(()) } else { Verdict::invalid(what, got, expected) }
    }

    /// Applies `f` to what was proved.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Verdict<U> {
        self.and_then(|value| Verdict::Valid(f(value)))
    }

    /// Goes on to a check that needs what this one proved.
    pub fn and_then<U>(self, f: impl FnOnce(T) -> Verdict<U>) -> Verdict<U> {
        match self {
            Self::Valid(value) => f(value),
            Self::Invalid { what, got, expected } => Verdict::Invalid { what, got, expected },
            Self::Undecided { missing } => Verdict::Undecided { missing },
        }
    }

    /// What was proved, if anything.
    pub fn valid(self) -> Option<T> {
        match self {
            Self::Valid(value) => Some(value),
            _ => None,
        }
    }

    /// Whether the claim holds.
    pub const fn is_valid(&self) -> bool {
        matches!(self, Self::Valid(_))
    }

    /// Whether the claim is false.
    pub const fn is_invalid(&self) -> bool {
        matches!(self, Self::Invalid { .. })
    }
}

impl<T> fmt::Display for Verdict<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Valid(_) => f.write_str("valid"),
            Self::Invalid { what, got, expected } => {
                write!(f, "invalid {what}: got {got}, expected {expected}")
            }
            Self::Undecided { missing } => write!(f, "not yet decidable: {missing} is missing"),
        }
    }
}
