//! The one line under an answer: it says no more than the ladder does.

use crate::{JobState, Lane, Step, StepId, StepState};

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
    match Lane::of(ladder) {
        Lane::Masked => masked(job, ladder),
        Lane::Sealed => sealed(job, ladder),
        Lane::Float => float(job, ladder),
    }
}

/// Rungs that must hold before answers of the float lane may be called evidence.
const FLOAT_CORE: [StepId; 4] =
    [StepId::RequestEscrowed, StepId::HeaderFinal, StepId::ShardsDrawn, StepId::EnvelopesSealed];

/// Never green: what is near is not what is right.
fn float(job: JobState, ladder: &[Step]) -> Claim {
    let core = FLOAT_CORE.map(|id| state_of(ladder, id));
    let near = state_of(ladder, StepId::AnswersNear);
    let revealed = state_of(ladder, StepId::AnswersRevealed);
    let held = core.iter().all(|s| *s == StepState::Verified) && near == StepState::Evidence;
    let (state, text) = match job {
        _ if near == StepState::Failed => {
            (StepState::Failed, "The nodes differ by more than honest machines do. No answer.")
        }
        _ if revealed == StepState::Failed => {
            (StepState::Failed, "A node published another answer than it told you.")
        }
        _ if core.contains(&StepState::Failed) => {
            (StepState::Failed, "A check failed. Do not rely on this answer.")
        }
        JobState::Running => {
            (StepState::Pending, "Under way. The nodes are compared when they have answered.")
        }
        JobState::Answered if held && revealed == StepState::NotChecked => {
            (StepState::NotChecked, "Weak evidence: not every node stood by its answer in time.")
        }
        JobState::Answered if held => (
            StepState::Evidence,
            "Statistical evidence: the nodes come as near to each other as honest machines. They have read the inputs.",
        ),
        JobState::Answered => (StepState::NotChecked, "Not enough to call it evidence."),
        JobState::Cancelled => (StepState::NotChecked, "Stopped. What was not spent comes back."),
        JobState::Interrupted => (
            StepState::NotChecked,
            "The page closed in the middle. What was not spent comes back at the deadline.",
        ),
        JobState::Failed => (StepState::NotChecked, "No answer."),
    };
    Claim { state, text }
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

    /// Whatever the rungs of the float lane say, even if all of them said it: it is never verified.
    #[test]
    fn a_float_answer_is_evidence_at_best() {
        let states = [
            StepState::Pending,
            StepState::Verified,
            StepState::Failed,
            StepState::NotChecked,
            StepState::Evidence,
        ];
        let jobs = [
            JobState::Running,
            JobState::Answered,
            JobState::Failed,
            JobState::Cancelled,
            JobState::Interrupted,
        ];
        let good =
            |id| if id == StepId::AnswersNear { StepState::Evidence } else { StepState::Verified };
        for job in jobs {
            for id in StepId::FLOAT {
                for state in states {
                    let steps = StepId::FLOAT.map(|of| {
                        let state = if of == id { state } else { good(of) };
                        Step { state, ..Step::pending(of) }
                    });
                    let said = claim(job, &steps);
                    assert_ne!(said.state, StepState::Verified, "{job:?} {id:?} {state:?}");
                    assert!(!said.text.to_lowercase().contains("verified"), "{}", said.text);
                    let core = FLOAT_CORE.contains(&id) && state != StepState::Verified;
                    let near = id == StepId::AnswersNear && state != StepState::Evidence;
                    if core || near || job != JobState::Answered {
                        assert_ne!(said.state, StepState::Evidence, "{job:?} {id:?} {state:?}");
                    }
                }
            }
        }
        let all = StepId::FLOAT.map(|id| Step { state: good(id), ..Step::pending(id) });
        let said = claim(JobState::Answered, &all);
        assert_eq!(said.state, StepState::Evidence);
        assert!(said.text.starts_with("Statistical evidence") && said.text.contains("have read"));
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
