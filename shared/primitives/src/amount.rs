//! Money: unsigned integers of a denomination's smallest unit, with checked arithmetic only.

use bytes::BufMut;
use commonware_codec::{Buf, Error, FixedSize, Read, Write};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use std::{borrow::Cow, fmt, str::FromStr};

/// One NES in unes.
pub const UNES_PER_NES: u64 = 1_000_000;

/// A sum of money in the smallest unit of its denomination (unes for NES).
///
/// There is no `+` or `-`: a sum that overflows or a debt is an error the caller must name. JSON
/// carries a decimal string, since a JavaScript number cannot hold every `u64`.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Amount(pub u64);

impl Amount {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// Whole NES as unes; `None` on overflow.
    pub const fn nes(whole: u64) -> Option<Self> {
        match whole.checked_mul(UNES_PER_NES) {
            Some(unes) => Some(Self(unes)),
            None => None,
        }
    }

    /// `self + other`; `None` on overflow.
    #[must_use]
    pub const fn checked_add(self, other: Self) -> Option<Self> {
        match self.0.checked_add(other.0) {
            Some(sum) => Some(Self(sum)),
            None => None,
        }
    }

    /// `self − other`; `None` when `other` is larger.
    #[must_use]
    pub const fn checked_sub(self, other: Self) -> Option<Self> {
        match self.0.checked_sub(other.0) {
            Some(rest) => Some(Self(rest)),
            None => None,
        }
    }

    /// `self × factor`; `None` on overflow.
    #[must_use]
    pub const fn checked_mul(self, factor: u64) -> Option<Self> {
        match self.0.checked_mul(factor) {
            Some(product) => Some(Self(product)),
            None => None,
        }
    }

    /// `⌊self × numerator ÷ denominator⌋`, exact in 128 bits; `None` if the denominator is zero or
    /// the result does not fit.
    #[must_use]
    pub fn ratio(self, numerator: u64, denominator: u64) -> Option<Self> {
        if denominator == 0 {
            return None;
        }
        let value = u128::from(self.0) * u128::from(numerator) / u128::from(denominator);
        u64::try_from(value).ok().map(Self)
    }

    /// The smaller of two amounts.
    #[must_use]
    pub fn min(self, other: Self) -> Self {
        Ord::min(self, other)
    }

    /// Whether this is nothing.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// As people read it, for an amount of NES: `0.42 NES`, without needless zeros.
    pub const fn in_nes(self) -> InNes {
        InNes(self)
    }
}

/// An amount of NES in words; see [`Amount::in_nes`].
#[derive(Clone, Copy, Debug)]
pub struct InNes(Amount);

impl fmt::Display for InNes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, fraction) = (self.0.0 / UNES_PER_NES, self.0.0 % UNES_PER_NES);
        if fraction == 0 {
            return write!(f, "{whole} NES");
        }
        let digits = format!("{fraction:06}");
        write!(f, "{whole}.{} NES", digits.trim_end_matches('0'))
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Amount({})", self.0)
    }
}

impl FromStr for Amount {
    type Err = std::num::ParseIntError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl Write for Amount {
    fn write(&self, buf: &mut impl BufMut) {
        self.0.write(buf);
    }
}

impl FixedSize for Amount {
    const SIZE: usize = 8;
}

impl Read for Amount {
    type Cfg = ();
    fn read_cfg(buf: &mut impl Buf, cfg: &()) -> Result<Self, Error> {
        u64::read_cfg(buf, cfg).map(Self)
    }
}

/// What money is counted in: 0 is NES, others are stablecoins registered at genesis.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Denom(pub u32);

impl Denom {
    /// The native coin.
    pub const NES: Self = Self(0);
}

impl fmt::Display for Denom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Write for Denom {
    fn write(&self, buf: &mut impl BufMut) {
        self.0.write(buf);
    }
}

impl FixedSize for Denom {
    const SIZE: usize = 4;
}

impl Read for Denom {
    type Cfg = ();
    fn read_cfg(buf: &mut impl Buf, cfg: &()) -> Result<Self, Error> {
        u32::read_cfg(buf, cfg).map(Self)
    }
}
