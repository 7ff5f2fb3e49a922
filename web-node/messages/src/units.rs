//! Numbers with a unit, so that a fee is never mistaken for a height.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// One query as the page knows it. Chosen by the page, unique on the device (milliseconds since the
/// epoch at which the user pressed the button work well), and the key of the history entry.
pub type JobId = u64;

/// Matches an answer to a question that is not a job (a quote, a file check). Chosen by the page.
pub type RequestId = u32;

/// An amount in unes, 1 NES = 1,000,000 unes. A decimal string in JSON, as everywhere outside the
/// binary codec, because JavaScript numbers lose digits above 2^53.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Unes(pub u64);

impl Unes {
    /// Unes in one NES.
    pub const PER_NES: u64 = 1_000_000;

    /// Reads what a person types into a NES field: `12`, `0.25`, `1_000.5`; at most six decimals.
    ///
    /// # Errors
    /// Says in plain words what is wrong with the text.
    pub fn parse_nes(text: &str) -> Result<Self, &'static str> {
        let clean: String =
            text.trim().chars().filter(|c| !matches!(c, '_' | ' ' | '\u{a0}')).collect();
        let (whole, fraction) = clean.split_once('.').unwrap_or((&clean, ""));
        if whole.is_empty() && fraction.is_empty() {
            return Err("enter an amount");
        }
        if fraction.len() > 6 {
            return Err("at most six decimals (1 une = 0.000001 NES)");
        }
        if !whole.chars().chain(fraction.chars()).all(|c| c.is_ascii_digit()) {
            return Err("digits and one decimal point only");
        }
        let whole: u64 = if whole.is_empty() {
            0
        } else {
            whole.parse().map_err(|_| "more NES than can exist")?
        };
        let fraction: u64 = format!("{fraction:0<6}").parse().map_err(|_| "not a number")?;
        whole
            .checked_mul(Self::PER_NES)
            .and_then(|w| w.checked_add(fraction))
            .map(Self)
            .ok_or("more NES than can exist")
    }
}

impl fmt::Display for Unes {
    /// NES with only the decimals that matter: `3.02`, `0.000041`, `1200`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, fraction) = (self.0 / Self::PER_NES, self.0 % Self::PER_NES);
        if fraction == 0 {
            return write!(f, "{whole}");
        }
        let digits = format!("{fraction:06}");
        write!(f, "{whole}.{}", digits.trim_end_matches('0'))
    }
}

impl FromStr for Unes {
    type Err = std::num::ParseIntError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        s.parse().map(Self)
    }
}

impl Serialize for Unes {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Unes {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        text.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_survive_json_and_read_as_nes() {
        let json = serde_json::to_string(&Unes(u64::MAX)).unwrap();
        assert_eq!(json, "\"18446744073709551615\"");
        assert_eq!(serde_json::from_str::<Unes>(&json).unwrap(), Unes(u64::MAX));
        assert!(serde_json::from_str::<Unes>("5").is_err(), "numbers lose digits in JavaScript");
        assert_eq!(Unes(1_250_000).to_string(), "1.25");
        assert_eq!(Unes(41).to_string(), "0.000041");
        assert_eq!(Unes(1_200_000_000).to_string(), "1200");
    }

    #[test]
    fn typed_amounts_are_exact_or_refused() {
        assert_eq!(Unes::parse_nes("0.25"), Ok(Unes(250_000)));
        assert_eq!(Unes::parse_nes(" 1_000.5 "), Ok(Unes(1_000_500_000)));
        assert_eq!(Unes::parse_nes(".000001"), Ok(Unes(1)));
        for bad in ["", ".", "1.0000001", "-1", "1e3", "1,5", "99999999999999999999"] {
            assert!(Unes::parse_nes(bad).is_err(), "{bad}");
        }
    }
}
