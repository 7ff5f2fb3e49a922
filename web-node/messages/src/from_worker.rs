//! What the worker answers and reports.

use serde::{Deserialize, Serialize};

use crate::{
    AdapterReport, BlockDetail, BlockRow, ConflictView, Conversation, ConversationItem, DonateView,
    Draft, HistoryItem, JobId, JobView, ModelOffer, NetworkView, OddsView, OnlineView, Problem,
    Progress, Quote, ReceiptReport, RequestId, Status, WalletView, WrittenView,
};

/// One report. Sent as `[json, Uint8Array?]`.
#[allow(clippy::large_enum_variant)] // one at a time, serialised at once
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "t", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum FromWorker {
    /// Where the worker stands.
    Status {
        /// Replaces the previous one.
        status: Status,
    },
    /// Headers just verified, oldest first. At most a few hundred at once.
    Blocks {
        /// New rows.
        blocks: Vec<BlockRow>,
    },
    /// One block in full.
    Block {
        /// The block.
        block: Box<BlockDetail>,
    },
    /// Two finalised headers at one height.
    Conflict {
        /// Both.
        conflict: ConflictView,
    },
    /// The nodes.
    Network {
        /// Replaces the previous one.
        network: NetworkView,
    },
    /// The wallet.
    Wallet {
        /// Replaces the previous one.
        wallet: WalletView,
    },
    /// A quote.
    Quote {
        /// The answer.
        quote: Quote,
    },
    /// A job, whole.
    Job {
        /// Replaces the previous view of the same id.
        job: Box<JobView>,
    },
    /// How far a running job is.
    Progress {
        /// Which.
        job: JobId,
        /// How far.
        progress: Progress,
    },
    /// A chat's answer as far as it is written, several times a second at most. The job's view has it
    /// too, when it comes.
    Written {
        /// Which.
        job: JobId,
        /// Replaces [`JobView::written`].
        written: WrittenView,
    },
    /// The models offered, in the order of the network.
    Models {
        /// Replaces the previous ones.
        models: Vec<ModelOffer>,
    },
    /// Who serves a model's shards at this moment.
    Online {
        /// Replaces the previous one of the same model.
        online: OnlineView,
    },
    /// How likely a committee fails.
    Odds {
        /// For these replicas and shards.
        odds: OddsView,
    },
    /// The conversations kept on this device, latest first.
    Conversations {
        /// Replaces the previous ones.
        items: Vec<ConversationItem>,
    },
    /// One conversation, whole: when it was asked for, and when the worker changed it.
    Conversation {
        /// The import it answers.
        request: Option<RequestId>,
        /// Replaces the previous one of the same id.
        conversation: Box<Conversation>,
    },
    /// The history rail, latest first.
    History {
        /// Replaces the previous one.
        items: Vec<HistoryItem>,
    },
    /// The draft kept from an earlier visit. Sent once, after `Start`.
    Draft {
        /// The draft.
        draft: Draft,
    },
    /// A file for the user to keep; its bytes travel beside the JSON.
    File {
        /// Suggested name.
        name: String,
        /// MIME type.
        mime: String,
    },
    /// A receipt was checked.
    Receipt {
        /// The report.
        report: Box<ReceiptReport>,
    },
    /// The volunteer's meter.
    Donate {
        /// Replaces the previous one.
        donate: DonateView,
    },
    /// The adapter probe.
    Adapter {
        /// Replaces the previous one.
        adapter: AdapterReport,
    },
    /// A request could not be answered.
    Failed {
        /// The request, where it had an id.
        request: Option<RequestId>,
        /// The job, where it concerns one.
        job: Option<JobId>,
        /// Why.
        problem: Problem,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ChatMessage, ChatRole, ChatSampling, JobOptions, Lane, LaneChoice, StopReason, Task,
        TaskKind, ToWorker, Unes, WalletCommand,
    };

    #[test]
    fn json_is_camel_case_and_tagged() {
        let run = ToWorker::Run {
            job: 7,
            task: Task::Embed { texts: vec!["a".into()] },
            options: JobOptions { max_fee: Some(Unes(5)), ..JobOptions::default() },
        };
        let json = serde_json::to_value(&run).unwrap();
        assert_eq!(json["t"], "run");
        assert_eq!(json["task"]["kind"], "embed");
        assert_eq!(json["options"]["maxFee"], "5");
        assert_eq!(serde_json::from_value::<ToWorker>(json).unwrap(), run);
    }

    #[test]
    fn views_accept_missing_fields() {
        let job = r#"{"t":"job","job":{"id":3,"question":"q","state":"answered"}}"#;
        let FromWorker::Job { job } = serde_json::from_str(job).unwrap() else { panic!("job") };
        assert_eq!(job.id, 3);
        assert!(job.ladder.is_empty());
    }

    #[test]
    fn a_chat_task_round_trips() {
        let turns = [(ChatRole::System, "Be brief."), (ChatRole::User, "What is a lighthouse?")];
        let run = ToWorker::Run {
            job: 8,
            task: Task::Chat {
                model: "ab".into(),
                messages: turns.map(|(role, text)| ChatMessage::new(role, text)).to_vec(),
                sampling: ChatSampling { temperature: 0.8, seed: Some(7), ..Default::default() },
                conversation: Some(3),
                lane: LaneChoice { lane: Lane::Sealed, replicas: 5, ..LaneChoice::default() },
            },
            options: JobOptions::default(),
        };
        let json = serde_json::to_value(&run).unwrap();
        assert_eq!(json["task"]["kind"], "chat");
        assert_eq!(json["task"]["messages"][0]["role"], "system");
        assert_eq!(json["task"]["sampling"]["maxTokens"], 128);
        assert_eq!(json["task"]["lane"]["lane"], "sealed");
        assert_eq!(serde_json::from_value::<ToWorker>(json).unwrap(), run);
    }

    #[test]
    fn jobs_of_earlier_versions_are_searches_without_a_text() {
        let job: JobView = serde_json::from_str(r#"{"id":3,"question":"q"}"#).unwrap();
        assert_eq!((job.kind, job.written), (TaskKind::Search, None));
        let old = r#"{"kind":"chat","model":"ab","messages":[],"sampling":{}}"#;
        let Task::Chat { lane, .. } = serde_json::from_str(old).unwrap() else { panic!("chat") };
        assert_eq!(lane, LaneChoice::default(), "a chat is masked unless it says otherwise");
        assert!(!lane.disclose);
        let written = r#"{"t":"written","job":4,"written":{"text":"a","stop":"end"}}"#;
        let FromWorker::Written { written, .. } = serde_json::from_str(written).unwrap() else {
            panic!("written")
        };
        assert_eq!((written.text.as_str(), written.stop), ("a", Some(StopReason::End)));
    }

    #[test]
    fn every_status_round_trips() {
        let status = FromWorker::Status { status: Status::default() };
        let json = serde_json::to_string(&status).unwrap();
        assert_eq!(serde_json::from_str::<FromWorker>(&json).unwrap(), status);
    }

    #[test]
    fn a_passphrase_never_reaches_a_debug_print() {
        let message = ToWorker::Wallet {
            command: WalletCommand::Create { passphrase: Some("hunter2".into()) },
        };
        assert!(!format!("{message:?}").contains("hunter2"));
    }
}
