//! Checking a job's record again.

use std::rc::Rc;

use nesa_messages::{JobId, Lane, Problem, StepState};
use nesa_platform::time::Instant;
use nesa_verify::receipt::PaymentReceipt;

use crate::{
    app::App,
    problem::{Shown as _, not_ready},
    progress::life,
};

impl App {
    /// Checks everything stored about a job again, from the stored bytes and a fresh state proof.
    pub(crate) async fn recheck(self: Rc<Self>, job: JobId) {
        let lane = self.views.borrow().get(&job).map(|view| Lane::of(&view.ladder));
        let checked = match lane {
            Some(Lane::Sealed | Lane::Float) => self.look_again(job).await,
            Some(Lane::Masked) | None => self.check_again(job).await,
        };
        match checked {
            Ok(()) => {}
            Err(problem) => self.port.fail(None, Some(job), problem),
        }
        self.send_job(job);
    }

    async fn check_again(&self, job: JobId) -> Result<(), Problem> {
        let chain = self.chain().ok_or_else(not_ready)?;
        let bytes = self.payment_receipt(job).await.ok_or_else(|| {
            Problem::new(
                "no-receipt",
                "There is nothing to check again yet.",
                "The receipt exists once the chain has paid the nodes.",
            )
        })?;
        let text = String::from_utf8_lossy(&bytes);
        let receipt = PaymentReceipt::from_json(&text).map_err(|error| {
            Problem::new("bad-receipt", format!("{error}."), "It was altered on this device.")
        })?;
        let start = Instant::now();
        let verdict = nesa_verify::receipt::verify(
            &receipt,
            chain.light.trust(),
            &mut nesa_platform::random::rng(),
        );
        let checked_ms = start.elapsed().as_secs_f64() * 1000.0;
        let now = chain.queries.recheck(&receipt).await.map_err(|e| e.problem())?;
        let failure = match (verdict, now) {
            (Err(failure), _) => Some((failure.what, failure.got, failure.expected)),
            (Ok(_), nesa_primitives::Verdict::Invalid { what, got, expected }) => {
                Some((what.to_owned(), got, expected))
            }
            (Ok(_), _) => None,
        };
        self.change_job(job, |view| {
            for step in &mut view.ladder {
                use nesa_messages::StepId::{
                    CommitteeDerived, HeaderFinal, RequestEscrowed, Settled,
                };
                if !matches!(step.id, RequestEscrowed | HeaderFinal | CommitteeDerived | Settled) {
                    continue;
                }
                match &failure {
                    None => {
                        step.state = StepState::Verified;
                        step.checked_ms = Some(checked_ms / 4.0);
                    }
                    Some((what, got, expected)) => {
                        step.state = StepState::Failed;
                        step.detail = what.clone();
                        step.got = Some(got.clone());
                        step.expected = Some(expected.clone());
                    }
                }
            }
            life(view, "checked again by this device", Some(chain.light.height()));
        })
        .await;
        Ok(())
    }
}
