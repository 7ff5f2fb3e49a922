//! What was measured before anything is decided.

use crate::{rate::Rate, statistics::Statistics};
use commonware_codec::{Encode as _, RangeCfg};
use nesa_primitives::{Hash, Text, codec_struct, domain};
use serde::{Deserialize, Serialize};
use thiserror::Error as ThisError;

/// Most platforms of a calibration.
pub const MAX_PLATFORMS: usize = 16;
/// Most classes of deviations of a calibration.
pub const MAX_CLASSES: usize = 32;

/// Thresholds are never below this, however alike the machines measured were: one place in 64, one
/// exponent in 128, one kept bit, a millionth of the output. Machines that were not measured differ
/// by about that.
pub const FLOOR: Statistics = Statistics {
    missing_ppm: 15_625,
    exponent_ppm: 7_813,
    mean_milli: 1000,
    median_milli: 1000,
    output_ppb: 1000,
};

/// One way in which a replica may deviate, and how often it passed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Class {
    /// What was done: `int8 weights`, `swapped model`.
    pub name: Text<48>,
    /// The smallest of each statistic against an honest run, over the trials. Not of one run.
    pub nearest: Statistics,
    /// Trials are inputs not used for the thresholds; an error is a deviating run that was within the
    /// thresholds of any honest one.
    pub false_negative: Rate,
}

codec_struct!(Class { name, nearest, false_negative });

/// Thresholds for one model, and the error rates measured with them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Calibration {
    /// Digest of the model.
    pub model: Hash,
    /// The plan: taps, and how they are sketched.
    pub plan: Hash,
    /// What computed, with its version.
    pub engine: Text<48>,
    /// The machines that were compared: `native x86_64`, `wasm simd128`.
    pub platforms: Vec<Text<48>>,
    /// How the inputs were made.
    pub inputs: Text<200>,
    /// Inputs that the thresholds were fitted on.
    pub fitted: u32,
    /// The largest of each statistic between two honest runs of those.
    pub honest: Statistics,
    /// How far the thresholds are beyond it, in percent of it.
    pub margin_percent: u32,
    /// The largest of each statistic that still counts as the same run.
    pub thresholds: Statistics,
    /// Trials are inputs not used for the thresholds; an error is one with any two honest runs told
    /// apart.
    pub false_positive: Rate,
    /// Deviations that were tried.
    pub classes: Vec<Class>,
}

codec_struct!(Calibration {
    model,
    plan,
    engine,
    platforms: (RangeCfg::new(0..=MAX_PLATFORMS), ()),
    inputs,
    fitted,
    honest,
    margin_percent,
    thresholds,
    false_positive,
    classes: (RangeCfg::new(0..=MAX_CLASSES), ()),
});

/// A calibration that says nothing sensible.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
pub enum CalibrationError {
    /// More errors than trials.
    #[error("{what}: {errors} errors in {trials} trials")]
    Rate {
        /// Which rate.
        what: String,
        /// Its errors.
        errors: u32,
        /// Its trials.
        trials: u32,
    },
    /// Fewer than two platforms: nothing was compared.
    #[error("{got} platforms compared, at least two needed")]
    Platforms {
        /// How many.
        got: usize,
    },
    /// Too many classes or platforms.
    #[error("{got} {what}, at most {max}")]
    Many {
        /// Of what.
        what: &'static str,
        /// How many.
        got: usize,
        /// How many are allowed.
        max: usize,
    },
    /// Thresholds that do not follow from what was measured.
    #[error("thresholds {got:?}, but margin and measurements give {expected:?}")]
    Thresholds {
        /// As written.
        got: Box<Statistics>,
        /// As they follow.
        expected: Box<Statistics>,
    },
}

/// Why a calibration does not decide what is asked of it.
#[derive(Clone, Debug, PartialEq, ThisError)]
pub enum Weakness {
    /// Of another model or plan.
    #[error("the calibration is of plan {got}, the answers of {expected}")]
    Plan {
        /// Its plan.
        got: Hash,
        /// The answers'.
        expected: Hash,
    },
    /// Honest machines may be told apart too often.
    #[error(
        "honest machines may be told apart in {upper:.4} of all cases ({errors} of {trials} were), \
         at most {allowed} is asked for"
    )]
    FalsePositive {
        /// Upper end of the interval.
        upper: f64,
        /// Errors counted.
        errors: u32,
        /// Trials.
        trials: u32,
        /// What is asked for.
        allowed: f64,
    },
    /// A deviation may pass too often.
    #[error(
        "{class} may pass in {upper:.4} of all cases ({errors} of {trials} did), at most {allowed} is \
         asked for"
    )]
    FalseNegative {
        /// The deviation.
        class: String,
        /// Upper end of the interval.
        upper: f64,
        /// Errors counted.
        errors: u32,
        /// Trials.
        trials: u32,
        /// What is asked for.
        allowed: f64,
    },
    /// A deviation that matters was not tried.
    #[error("the calibration did not try {class}")]
    Untried {
        /// The deviation.
        class: String,
    },
}

/// The error rates somebody can bear.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Demand {
    /// Upper end of the interval of false positives.
    pub false_positive: f64,
    /// Upper end of the interval of false negatives of each of `classes`.
    pub false_negative: f64,
    /// Deviations that must be told apart.
    pub classes: Vec<String>,
}

impl Default for Demand {
    /// 5 % of each; 8-bit weights and a swapped model.
    fn default() -> Self {
        let classes = vec!["int8 weights".to_owned(), "swapped model".to_owned()];
        Self { false_positive: 0.05, false_negative: 0.05, classes }
    }
}

impl Calibration {
    /// The thresholds that follow from what honest machines differed by.
    pub fn fit(honest: Statistics, margin_percent: u32) -> Statistics {
        honest.percent(margin_percent).max(FLOOR).min(Statistics::APART)
    }

    /// Checks a calibration from outside.
    ///
    /// # Errors
    /// The first [`CalibrationError`].
    pub fn check(&self) -> Result<(), CalibrationError> {
        let many = |what, got: usize, max| match got > max {
            true => Err(CalibrationError::Many { what, got, max }),
            false => Ok(()),
        };
        many("platforms", self.platforms.len(), MAX_PLATFORMS)?;
        many("classes", self.classes.len(), MAX_CLASSES)?;
        if self.platforms.len() < 2 {
            return Err(CalibrationError::Platforms { got: self.platforms.len() });
        }
        let rates = self.classes.iter().map(|class| (class.name.as_str(), class.false_negative));
        for (what, Rate { trials, errors }) in rates.chain([("honest runs", self.false_positive)]) {
            if errors > trials {
                return Err(CalibrationError::Rate { what: what.to_owned(), errors, trials });
            }
        }
        let expected = Self::fit(self.honest, self.margin_percent);
        if self.thresholds != expected {
            let (got, expected) = (Box::new(self.thresholds), Box::new(expected));
            return Err(CalibrationError::Thresholds { got, expected });
        }
        Ok(())
    }

    /// Whether the rates are good enough to decide, at the upper ends of their intervals.
    ///
    /// # Errors
    /// The first [`Weakness`].
    pub fn meets(&self, demand: &Demand) -> Result<(), Weakness> {
        let Rate { trials, errors } = self.false_positive;
        let (_, upper) = self.false_positive.interval();
        let allowed = demand.false_positive;
        if exceeds(upper, allowed) {
            return Err(Weakness::FalsePositive { upper, errors, trials, allowed });
        }
        for class in &demand.classes {
            let tried = self.classes.iter().find(|tried| tried.name.as_str() == class);
            let rate = match tried {
                Some(tried) => tried.false_negative,
                None => return Err(Weakness::Untried { class: class.clone() }),
            };
            let (_, upper) = rate.interval();
            let Rate { trials, errors } = rate;
            let allowed = demand.false_negative;
            if exceeds(upper, allowed) {
                let class = class.clone();
                return Err(Weakness::FalseNegative { class, upper, errors, trials, allowed });
            }
        }
        Ok(())
    }

    /// The digest that names it.
    pub fn digest(&self) -> Hash {
        let mut hasher = domain("float calibration", &Hash::ZERO);
        hasher.update(&self.encode());
        hasher.finalize().into()
    }
}

/// Whether a rate is more than is allowed; a demand that is no number is not met.
fn exceeds(rate: f64, allowed: f64) -> bool {
    allowed.is_nan() || rate > allowed
}
