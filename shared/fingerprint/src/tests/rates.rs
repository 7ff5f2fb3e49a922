//! Confidence intervals against published values, and calibrations that do not decide.

use super::calibrate;
use crate::{CalibrationError, Demand, Rate, Statistics, Weakness};

#[test]
fn intervals_are_those_of_clopper_and_pearson() {
    // R: binom.test(errors, trials)$conf.int
    for (errors, trials, lower, upper) in [
        (0, 100, 0.0, 0.036_216_69),
        (5, 100, 0.016_431_88, 0.112_834_91),
        (1, 10, 0.002_528_579, 0.445_016_12),
        (10, 10, 0.691_502_89, 1.0),
        (0, 0, 0.0, 1.0),
    ] {
        let (low, high) = Rate { trials, errors }.interval();
        assert!((low - lower).abs() < 1e-6, "{errors}/{trials}: {low}");
        assert!((high - upper).abs() < 1e-6, "{errors}/{trials}: {high}");
    }
}

#[test]
fn a_calibration_decides_only_what_its_rates_allow() {
    let good = calibrate();
    let demand = Demand::default();
    let mut few = good.clone();
    few.false_positive.trials = 20;
    assert!(matches!(few.meets(&demand), Err(Weakness::FalsePositive { .. })));
    let mut blind = good.clone();
    blind.classes[0].false_negative.errors = 9;
    assert!(matches!(blind.meets(&demand), Err(Weakness::FalseNegative { .. })));
    let mut untried = good.clone();
    untried.classes.retain(|class| class.name.as_str() != "swapped model");
    assert!(matches!(untried.meets(&demand), Err(Weakness::Untried { .. })));
    let nonsense = Demand { false_positive: f64::NAN, ..demand };
    assert!(good.meets(&nonsense).is_err());
}

#[test]
fn calibrations_that_contradict_themselves_are_refused() {
    let good = calibrate();
    let mut loose = good.clone();
    loose.thresholds = Statistics::APART;
    assert!(matches!(loose.check(), Err(CalibrationError::Thresholds { .. })));
    let mut impossible = good.clone();
    impossible.classes[0].false_negative = Rate { trials: 1, errors: 2 };
    assert!(matches!(impossible.check(), Err(CalibrationError::Rate { .. })));
    let mut alone = good;
    alone.platforms.truncate(1);
    assert_eq!(alone.check(), Err(CalibrationError::Platforms { got: 1 }));
}
