//! Conversations to a file and back, with their receipts.
//!
//! A file comes from anywhere, so nothing it says of checks is believed: rungs of the ladder are verified
//! only where the payment receipt in the file is, here and under the chain that this device follows. The
//! layers behind an imported answer are not checked here, and the ladder says so; an opened receipt can be.

use std::{collections::BTreeMap, rc::Rc};

use nesa_chain::trust::TrustRoot;
use nesa_light::receipt::OpenedReceipt;
use nesa_messages::{
    Conversation, ConversationId, FromWorker, JobId, JobState, JobView, Lane, Problem, RequestId,
    Standing, Step, StepId, StepState, TaskKind,
};
use nesa_platform::{random, time};
use nesa_verify::receipt::PaymentReceipt;
use serde::{Deserialize, Serialize};

use crate::{app::App, chat, view};

/// First field of every file.
const FORMAT: &str = "nesa-conversation/1";
/// Longest file read, in bytes.
const MAX_BYTES: usize = 64 << 20;
/// Jobs of a file at most.
const MAX_JOBS: usize = 1024;

/// What is said of every other rung.
const NOT_CHECKED: &str = "From a file: this device did not check it.";
/// Rungs that a payment receipt shows.
const SHOWN: [StepId; 5] = [
    StepId::RequestEscrowed,
    StepId::HeaderFinal,
    StepId::CommitteeDerived,
    StepId::ShardsDrawn,
    StepId::Settled,
];

/// How many of them a ladder has.
const SHOWN_PER_LANE: f64 = 4.0;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    format: String,
    conversation: Conversation,
    jobs: Vec<KeptJob>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeptJob {
    view: JobView,
    /// Text of the payment receipt.
    payment: Option<String>,
    /// Text of the opened receipt.
    opened: Option<String>,
}

fn unreadable(what: impl Into<String>) -> Problem {
    Problem::new("not-a-conversation", what, "Choose a file that exporting a conversation wrote.")
}

impl App {
    pub(crate) async fn export_conversation(
        self: Rc<Self>,
        id: ConversationId,
        openings: bool,
        consent: bool,
    ) {
        if let Err(problem) = self.write_file(id, openings, consent).await {
            self.port.fail(None, None, problem);
        }
    }

    async fn write_file(
        &self,
        id: ConversationId,
        openings: bool,
        consent: bool,
    ) -> Result<(), Problem> {
        if !consent {
            let what = "The file contains everything that was said.";
            return Err(Problem::new("no-consent", what, "Agree in words first."));
        }
        let conversation = self.conversations.borrow().get(&id).cloned();
        let conversation = conversation.ok_or_else(|| {
            let what = "This conversation is not kept on this device.";
            Problem::new("no-conversation", what, "It may have been deleted.")
        })?;
        let views: Vec<JobView> = self
            .views
            .borrow()
            .values()
            .filter(|view| view.conversation == Some(id))
            .cloned()
            .collect();
        let mut jobs = Vec::with_capacity(views.len());
        for view in views {
            let text = |bytes: Vec<u8>| String::from_utf8(bytes).ok();
            let payment = self.payment_receipt(view.id).await.and_then(text);
            let opened =
                if openings { self.opened_receipt(view.id).await.and_then(text) } else { None };
            jobs.push(KeptJob { view, payment, opened });
        }
        let file = File { format: FORMAT.to_owned(), conversation, jobs };
        let json = serde_json::to_vec(&file).map_err(|error| unreadable(error.to_string()))?;
        self.port.file(&format!("nesa-conversation-{id}.json"), "application/json", &json);
        Ok(())
    }

    pub(crate) async fn import_conversation(
        self: Rc<Self>,
        request: RequestId,
        name: &str,
        bytes: &[u8],
    ) {
        match self.read_file(bytes).await {
            Ok(conversation) => {
                tracing::debug!(name, "a conversation was read from a file");
                let conversation = Box::new(conversation);
                self.port.send(&FromWorker::Conversation { request: Some(request), conversation });
                self.send_conversations();
                self.send_history().await;
            }
            Err(problem) => self.port.fail(Some(request), None, problem),
        }
    }

    async fn read_file(&self, bytes: &[u8]) -> Result<Conversation, Problem> {
        if bytes.len() > MAX_BYTES {
            let got = format!("{} bytes", bytes.len());
            return Err(unreadable("The file is too large.").with(got, "64 MiB at most"));
        }
        let file: File = serde_json::from_slice(bytes)
            .map_err(|error| unreadable(format!("This is no conversation: {error}.")))?;
        if file.format != FORMAT {
            let got: String = file.format.chars().take(64).collect();
            return Err(unreadable("The file is of another format.").with(got, FORMAT));
        }
        if file.jobs.len() > MAX_JOBS {
            let got = format!("{} answers", file.jobs.len());
            return Err(
                unreadable("The file is too long.").with(got, format!("{MAX_JOBS} at most"))
            );
        }
        let mut conversation = file.conversation;
        conversation.id = self.fresh(|id| self.conversations.borrow().contains_key(&id));
        conversation.updated_ms = time::now_ms() as f64;
        let mut renamed = BTreeMap::new();
        for job in file.jobs {
            let id = self.fresh(|id| self.views.borrow().contains_key(&id));
            renamed.insert(job.view.id, id);
            self.take_in(id, conversation.id, job).await?;
        }
        let rename = |id: JobId| renamed.get(&id).copied();
        for message in &mut conversation.messages {
            message.job = message.job.and_then(rename);
            message.earlier = message.earlier.iter().copied().filter_map(rename).collect();
        }
        self.keep_conversation(conversation.clone()).await;
        Ok(conversation)
    }

    /// An id that is not taken.
    fn fresh(&self, taken: impl Fn(u64) -> bool) -> u64 {
        let mut id = time::now_ms();
        while taken(id) {
            id += 1;
        }
        id
    }

    /// Keeps one job of a file under a new id, with the ladder that its receipt supports here.
    async fn take_in(
        &self,
        id: JobId,
        conversation: ConversationId,
        job: KeptJob,
    ) -> Result<(), Problem> {
        let KeptJob { mut view, payment, opened } = job;
        let verified = payment.as_deref().and_then(|text| self.holds(text, view.query.as_deref()));
        let opened = opened.filter(|text| OpenedReceipt::from_json(text).is_ok());
        view.id = id;
        view.kind = TaskKind::Chat;
        view.conversation = Some(conversation);
        view.imported = true;
        if view.state == JobState::Running {
            view.state = JobState::Interrupted;
        }
        chat::stop_as(&mut view);
        let lane = if view.sealed.is_some() { Lane::Sealed } else { Lane::Masked };
        view.float = None;
        view.ladder = ladder(lane, verified, &self.origin.borrow(), &self.build.borrow());
        view.lane = lane.name().to_owned();
        if let Some(sealed) = &mut view.sealed {
            // What nodes revealed to somebody else was not seen here.
            (sealed.standing, sealed.revealed) = (Standing::Unrevealed, 0);
            sealed.roots.clear();
        }
        view.has_payment_receipt = verified.is_some();
        view.has_opening = opened.is_some();
        let payment = payment.filter(|_| verified.is_some());
        let kept = self.keep_receipts(id, payment.as_deref(), opened.as_deref()).await;
        if kept.is_err() {
            view.has_payment_receipt = false;
            view.has_opening = false;
        }
        self.keep_job(&view).await;
        self.port.send(&FromWorker::Job { job: Box::new(view.clone()) });
        self.views.borrow_mut().insert(id, view);
        Ok(())
    }

    /// How long the check of a payment receipt took, if it holds, here and now, for that query.
    fn holds(&self, text: &str, query: Option<&str>) -> Option<f64> {
        let identity = self.status.borrow().identity.clone()?;
        let trust = TrustRoot::from_hex(&identity.trust_root).ok()?;
        let receipt = PaymentReceipt::from_json(text).ok()?;
        let start = time::Instant::now();
        let report = nesa_verify::receipt::verify(&receipt, &trust, &mut random::rng()).ok()?;
        let named = report.summary.query.to_string();
        (query == Some(named.as_str())).then(|| start.elapsed().as_secs_f64() * 1000.0)
    }
}

/// The ladder of an imported answer: what its payment receipt shows, and nothing else.
fn ladder(lane: Lane, verified: Option<f64>, origin: &str, build: &str) -> Vec<Step> {
    let mut steps = Step::ladder_of(lane);
    for step in &mut steps {
        step.state = StepState::NotChecked;
        step.who = "a file".to_owned();
        step.detail = NOT_CHECKED.to_owned();
        if let Some(checked_ms) = verified
            && SHOWN.contains(&step.id)
        {
            step.state = StepState::Verified;
            step.who = "the chain".to_owned();
            step.detail = "shown by the payment receipt in the file".to_owned();
            step.checked_ms = Some(checked_ms / SHOWN_PER_LANE);
        }
        if step.id == StepId::PageCode {
            *step = view::page_code(origin, build);
        }
    }
    steps
}
