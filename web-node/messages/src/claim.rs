//! The one line under an answer: it says no more than the ladder does.

use crate::{JobState, Lane, Step, StepId, StepState, ladder::lane};

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

/// Rungs that must hold before an answer of the sealed lane may be called agreed on.
const SEALED_CORE: [StepId; 6] = [
    StepId::RequestEscrowed,
    StepId::HeaderFinal,
    StepId::ShardsDrawn,
    StepId::EnvelopesSealed,
    StepId::ReplicasAgreed,
    StepId::TracesEqual,
];

/// The claim that this ladder supports. Green means another thing in each lane, and the words say which.
pub fn claim(job: JobState, ladder: &[Step]) -> Claim {
    match lane(ladder) {
        Lane::Masked => masked(job, ladder),
        Lane::Sealed => sealed(job, ladder),
    }
}

fn sealed(job: JobState, ladder: &[Step]) -> Claim {
    let core = SEALED_CORE.map(|id| state_of(ladder, id));
    let agreed = state_of(ladder, StepId::ReplicasAgreed);
    let traces = state_of(ladder, StepId::TracesEqual);
    let (state, text) = match job {
        _ if agreed == StepState::Failed || traces == StepState::Failed => {
            (StepState::Failed, "The nodes contradict each other. Do not rely on this text.")
        }
        _ if core.contains(&StepState::Failed) => {
            (StepState::Failed, "A check failed. Do not rely on this answer.")
        }
        JobState::Running => {
            (StepState::Pending, "Not yet verified. The nodes are compared as they answer.")
        }
        JobState::Answered if core.iter().all(|s| *s == StepState::Verified) => (
            StepState::Verified,
            "Agreed: every node computed the same and stands by it. They have read it.",
        ),
        JobState::Answered if agreed == StepState::Verified && traces == StepState::NotChecked => {
            (StepState::NotChecked, "Not verified: not every node published its trace.")
        }
        JobState::Answered if core.contains(&StepState::NotChecked) => {
            (StepState::NotChecked, "Not verified by this device.")
        }
        JobState::Answered if agreed == StepState::Verified => (
            StepState::Pending,
            "Not yet verified. All nodes agree so far; their traces are still to come.",
        ),
        JobState::Answered => (StepState::Pending, "Not yet verified."),
        JobState::Cancelled => {
            (StepState::NotChecked, "Stopped, and not verified. What was not spent comes back.")
        }
        JobState::Interrupted => (
            StepState::NotChecked,
            "The page closed in the middle. What is shown was never verified.",
        ),
        JobState::Failed => (StepState::NotChecked, "Not verified."),
    };
    Claim { state, text }
}

fn masked(job: JobState, ladder: &[Step]) -> Claim {
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
    fn a_sealed_text_is_green_only_with_every_rung_and_never_called_private_or_right() {
        let ladder = |change: &dyn Fn(&mut Step)| {
            let mut steps = Step::ladder_of(Lane::Sealed);
            for step in &mut steps {
                step.state = StepState::Verified;
                change(step);
            }
            steps
        };
        let all = claim(JobState::Answered, &ladder(&|_| {}));
        assert_eq!(all.state, StepState::Verified);
        assert!(all.text.contains("have read it") && !all.text.contains("Private"), "{}", all.text);
        assert!(!all.text.contains("right") && !all.text.contains("checked"), "{}", all.text);
        for missing in SEALED_CORE {
            for state in [StepState::Pending, StepState::Failed, StepState::NotChecked] {
                let steps = ladder(&|s: &mut Step| {
                    if s.id == missing {
                        s.state = state;
                    }
                });
                let said = claim(JobState::Answered, &steps);
                assert_ne!(said.state, StepState::Verified, "{missing:?} {state:?}");
                assert!(!said.text.starts_with("Agreed"), "{missing:?} {state:?}");
            }
        }
        for job in [JobState::Running, JobState::Cancelled, JobState::Interrupted, JobState::Failed]
        {
            assert_ne!(claim(job, &ladder(&|_| {})).state, StepState::Verified, "{job:?}");
        }
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
