//! Which replicas agree.

use crate::{
    calibration::{Calibration, Demand, Weakness},
    fingerprint::Fingerprint,
    statistics::{Statistics, output_difference},
};

/// Most answers that are compared: every set of them is looked at.
pub const MAX_ANSWERS: usize = 8;

/// What one replica gave.
#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
    /// Its fingerprint.
    pub fingerprint: &'a Fingerprint,
    /// The values of its float outputs, one after the other.
    pub output: &'a [f32],
}

impl Run<'_> {
    /// How far it is from another run; [`Statistics::APART`] when they cannot be compared.
    pub fn distance(&self, other: &Self) -> Statistics {
        let Ok(statistics) = self.fingerprint.compare(other.fingerprint) else {
            return Statistics::APART;
        };
        Statistics { output_ppb: output_difference(self.output, other.output), ..statistics }
    }
}

/// What replicas that answered say together.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// A strict majority of those asked are all within the thresholds of each other, and no other
    /// group as large is.
    Agreed {
        /// Who, ascending.
        members: Vec<usize>,
        /// The worst statistics between two of them.
        worst: Statistics,
    },
    /// However the missing ones answered, there would be no such majority.
    Disagreed {
        /// The most that agree.
        got: usize,
        /// A strict majority of those asked.
        expected: usize,
    },
    /// Not decidable from this.
    Undecided {
        /// What is missing, in words.
        missing: String,
    },
}

/// Decides whether a strict majority of the replicas agrees. `answers` has one place for each replica
/// asked, `None` where none came or one that does not decode.
///
/// Being within thresholds is not transitive, so all pairs of a majority must be. The calibration's
/// error rates decide whether it may decide at all: one that does not meet the demand, or belongs to
/// another plan, leaves the question open.
pub fn agree(calibration: &Calibration, demand: &Demand, answers: &[Option<Run<'_>>]) -> Decision {
    let asked = answers.len();
    let needed = asked / 2 + 1;
    if asked < 2 {
        return Decision::Undecided { missing: "a second replica".to_owned() };
    }
    if asked > MAX_ANSWERS {
        return Decision::Undecided { missing: format!("a way to compare {asked} answers") };
    }
    if let Err(weakness) = calibration.meets(demand) {
        return undecided(&weakness);
    }
    let there: Vec<(usize, Run<'_>)> =
        answers.iter().enumerate().filter_map(|(i, run)| Some((i, (*run)?))).collect();
    // A replica of another plan answered something else: it is not missing, it differs. If nobody is
    // of the calibration's plan, it is the calibration that is wrong.
    let planned = |run: &Run<'_>| run.fingerprint.plan == calibration.plan;
    if let Some((_, run)) = there.first()
        && !there.iter().any(|(_, run)| planned(run))
    {
        let (got, expected) = (calibration.plan, run.fingerprint.plan);
        return undecided(&Weakness::Plan { got, expected });
    }
    let count = there.len();
    let mut distances = vec![vec![Statistics::APART; count]; count];
    for (i, (_, a)) in there.iter().enumerate() {
        for (j, (_, b)) in there.iter().enumerate().skip(i + 1) {
            if planned(a) && planned(b) {
                distances[i][j] = a.distance(b);
            }
        }
    }
    let cluster = |set: u32| -> Option<Statistics> {
        let members: Vec<usize> = (0..count).filter(|i| set >> i & 1 == 1).collect();
        let mut worst = Statistics::default();
        for (place, &i) in members.iter().enumerate() {
            if !planned(&there[i].1) {
                return None;
            }
            for &j in &members[place + 1..] {
                if !distances[i][j].within(&calibration.thresholds) {
                    return None;
                }
                worst = worst.max(distances[i][j]);
            }
        }
        Some(worst)
    };
    let mut best: Vec<(u32, Statistics)> = Vec::new();
    let mut most = 0;
    for set in 1u32..1 << count {
        let size = set.count_ones();
        if size < most {
            continue;
        }
        if let Some(worst) = cluster(set) {
            if size > most {
                best.clear();
                most = size;
            }
            best.push((set, worst));
        }
    }
    let got = most as usize;
    match best[..] {
        [(set, worst)] if got >= needed => {
            let members = (0..count).filter(|i| set >> i & 1 == 1).map(|i| there[i].0).collect();
            Decision::Agreed { members, worst }
        }
        [_, ..] if got >= needed => {
            let missing = format!("which of {} groups of {got} is meant: they overlap", best.len());
            Decision::Undecided { missing }
        }
        _ if got + (asked - count) >= needed => {
            let missing = format!("answers of {} replicas", asked - count);
            Decision::Undecided { missing }
        }
        _ => Decision::Disagreed { got, expected: needed },
    }
}

fn undecided(weakness: &Weakness) -> Decision {
    Decision::Undecided { missing: format!("a calibration that decides: {weakness}") }
}
