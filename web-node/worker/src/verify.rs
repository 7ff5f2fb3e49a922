//! Receipts that the user drops: payment receipts offline, opened ones with the model's weights.

use std::rc::Rc;

use nesa_chain::trust::TrustRoot;
use nesa_light::receipt::OpenedReceipt;
use nesa_messages::{
    FromWorker, Problem, ReceiptCheck, ReceiptKind, ReceiptReport, RequestId, StepState,
};
use nesa_model::ExactModel;
use nesa_platform::{random, time::Instant};
use nesa_verify::receipt::{Check, Failure, PaymentReceipt};

use crate::{app::App, problem::Shown as _};

/// Longer files are no receipts.
const MAX_BYTES: usize = 64 << 20;

impl App {
    pub(crate) async fn verify_file(
        self: Rc<Self>,
        request: RequestId,
        file: String,
        bytes: Vec<u8>,
    ) {
        let start = Instant::now();
        let mut report = match self.check(&bytes).await {
            Ok(report) => report,
            Err(problem) => ReceiptReport { problem: Some(problem), ..ReceiptReport::default() },
        };
        report.request = request;
        report.file = file;
        report.checked_ms = start.elapsed().as_secs_f64() * 1000.0;
        self.port.send(&FromWorker::Receipt { report: Box::new(report) });
    }

    async fn check(&self, bytes: &[u8]) -> Result<ReceiptReport, Problem> {
        let unreadable = |what: String| {
            Problem::new("not-a-receipt", what, "Drop a file that an Export button wrote.")
        };
        if bytes.len() > MAX_BYTES {
            return Err(unreadable("The file is too large to be a receipt.".into()));
        }
        let text =
            std::str::from_utf8(bytes).map_err(|_| unreadable("The file is not text.".into()))?;
        let trust = self.trusted()?;
        match PaymentReceipt::from_json(text) {
            Ok(receipt) => {
                let verdict = nesa_verify::receipt::verify(&receipt, &trust, &mut random::rng());
                Ok(shown(ReceiptKind::Payment, verdict))
            }
            Err(payment) => match OpenedReceipt::from_json(text) {
                Ok(receipt) => self.check_opened(&receipt, &trust).await,
                Err(opened) => Err(unreadable(format!(
                    "This is neither a payment receipt ({payment}) nor an opened one ({opened})."
                ))),
            },
        }
    }

    /// The trust root receipts are checked against: the one this device follows.
    fn trusted(&self) -> Result<TrustRoot, Problem> {
        let identity = self.status.borrow().identity.clone();
        identity.and_then(|identity| TrustRoot::from_hex(&identity.trust_root).ok()).ok_or_else(
            || {
                Problem::new(
                    "no-trust-root",
                    "This device does not know a trust root yet.",
                    "Open this page from a node of the network once.",
                )
            },
        )
    }

    async fn check_opened(
        &self,
        receipt: &OpenedReceipt,
        trust: &TrustRoot,
    ) -> Result<ReceiptReport, Problem> {
        let chain = self.chain().ok_or_else(crate::problem::not_ready)?;
        let digest = receipt.model().ok_or_else(|| {
            Problem::new("not-a-receipt", "The receipt names no model.", "It may be damaged.")
        })?;
        let artifact = chain
            .queries
            .models()
            .artifact(&digest, chain.queries.sources(), &|_| {})
            .await
            .map_err(|e| e.problem())?;
        let model = ExactModel::open(&artifact).map_err(|error| {
            Problem::new("bad-model", format!("{error}."), "Do not use this network's model.")
        })?;
        let verdict = receipt.verify_with(&trust.digest(), &model, Some(&*self.text)).await;
        Ok(shown(ReceiptKind::Opened, verdict))
    }
}

fn shown<S: serde::Serialize>(
    kind: ReceiptKind,
    verdict: Result<nesa_verify::receipt::Report<S>, Failure>,
) -> ReceiptReport {
    match verdict {
        Ok(report) => ReceiptReport {
            kind,
            valid: true,
            checks: report.checks.iter().map(held).collect(),
            contents: serde_json::to_value(&report.summary).unwrap_or_default(),
            does_not_show: report.does_not_show.iter().map(|s| (*s).to_owned()).collect(),
            ..ReceiptReport::default()
        },
        Err(failure) => ReceiptReport {
            kind,
            valid: false,
            checks: vec![ReceiptCheck {
                what: failure.what.clone(),
                state: StepState::Failed,
                evidence: serde_json::json!({ "got": failure.got, "expected": failure.expected }),
                ..ReceiptCheck::default()
            }],
            problem: Some(
                Problem::new(
                    "receipt-invalid",
                    format!("The first thing that does not hold: {}.", failure.what),
                    "Do not rely on this record.",
                )
                .with(failure.got, failure.expected),
            ),
            ..ReceiptReport::default()
        },
    }
}

fn held(check: &Check) -> ReceiptCheck {
    ReceiptCheck { what: check.what.clone(), state: StepState::Verified, ..ReceiptCheck::default() }
}
