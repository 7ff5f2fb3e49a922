//! The one line under an answer: it says no more than the ladder does.

use crate::{JobState, Step, StepId, StepState};

/// A claim in plain words, and the state that colours it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Colours it: green only when every core rung is verified.
    pub state: StepState,
    /// Plain words.
    pub text: &'static str,
}

/// Rungs that must hold before the answer may be called private and right.
const CORE: [StepId; 6] = [
    StepId::RequestEscrowed,
    StepId::HeaderFinal,
    StepId::CommitteeDerived,
    StepId::SharesSent,
    StepId::LayersChecked,
    StepId::OutputBound,
];

fn state_of(ladder: &[Step], id: StepId) -> StepState {
    ladder.iter().find(|s| s.id == id).map_or(StepState::Pending, |s| s.state)
}

/// The claim that this ladder supports.
pub fn claim(job: JobState, ladder: &[Step]) -> Claim {
    let core = CORE.map(|id| state_of(ladder, id));
    let settled = state_of(ladder, StepId::Settled);
    let failed = core.contains(&StepState::Failed) || settled == StepState::Failed;
    let unchecked = core.contains(&StepState::NotChecked);
    let all = core.iter().all(|s| *s == StepState::Verified);
    let (state, text) = match job {
        _ if failed => (StepState::Failed, "A check failed. Do not rely on this answer."),
        JobState::Running => (StepState::Pending, "Under way. Checks run as results arrive."),
        JobState::Answered if all && settled == StepState::Verified => (
            StepState::Verified,
            "Private from each node. Every layer checked by this device. Payment proven.",
        ),
        JobState::Answered if all => {
            (StepState::Verified, "Private from each node. Every layer checked by this device.")
        }
        JobState::Answered if unchecked => {
            (StepState::NotChecked, "Answered, but not everything was checked here.")
        }
        JobState::Answered => (StepState::Pending, "Answered. Some checks are still running."),
        JobState::Cancelled => (StepState::NotChecked, "Stopped. What was not spent comes back."),
        JobState::Interrupted => (
            StepState::NotChecked,
            "The page closed in the middle. What was not spent comes back at the deadline.",
        ),
        JobState::Failed => (StepState::NotChecked, "No answer."),
    };
    Claim { state, text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ladder(change: impl Fn(&mut Step)) -> Vec<Step> {
        let mut steps = Step::ladder();
        for step in &mut steps {
            step.state = StepState::Verified;
            change(step);
        }
        steps
    }

    #[test]
    fn green_needs_every_core_rung() {
        assert_eq!(claim(JobState::Answered, &ladder(|_| {})).state, StepState::Verified);
        for missing in CORE {
            for state in [StepState::Pending, StepState::Failed, StepState::NotChecked] {
                let steps = ladder(|s| {
                    if s.id == missing {
                        s.state = state;
                    }
                });
                assert_ne!(
                    claim(JobState::Answered, &steps).state,
                    StepState::Verified,
                    "{missing:?} {state:?}"
                );
            }
        }
        assert_ne!(claim(JobState::Answered, &[]).state, StepState::Verified);
    }

    #[test]
    fn the_pages_own_rung_adds_nothing() {
        let steps = ladder(|s| {
            if s.id == StepId::PageCode {
                s.state = StepState::NotChecked;
            }
        });
        assert_eq!(claim(JobState::Answered, &steps).state, StepState::Verified);
    }

    #[test]
    fn an_unpaid_answer_does_not_say_paid() {
        let steps = ladder(|s| {
            if s.id == StepId::Settled {
                s.state = StepState::Pending;
            }
        });
        assert!(!claim(JobState::Answered, &steps).text.contains("Payment"));
        assert!(!claim(JobState::Running, &steps).text.contains("Every layer"));
    }
}
