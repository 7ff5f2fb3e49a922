//! All the page knows, as one `Copy` struct of signals handed down by context.

mod actions;
mod chat;
mod files;
mod gate;
mod receive;
mod theme;

use std::collections::{HashMap, VecDeque};

use leptos::prelude::*;
use nesa_messages::{
    AdapterReport, BlockDetail, BlockRow, ChatDraft, ConflictView, Conversation, ConversationId,
    ConversationItem, DonateView, Draft, HistoryItem, JobId, JobView, ModelOffer, NetworkView,
    OddsView, OnlineView, PreparationChoice, Problem, Progress, Quote, ReceiptReport, RequestId,
    Status, TaskKind, WalletView, WrittenView,
};
use nesa_page::digit::Drawing;

pub(crate) use chat::Act;
pub(crate) use files::{download, read_bytes, read_text};
pub(crate) use gate::Gate;
pub(crate) use theme::Theme;

use crate::route::Route;

/// Blocks kept for the list and the sparkline.
pub(crate) const BLOCKS_KEPT: usize = 120;

/// The price of what is in the input.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum QuoteState {
    /// Nothing to price.
    #[default]
    Nothing,
    /// Asked, not answered.
    Asking,
    /// Answered.
    Ready(Quote),
    /// Refused.
    Failed(Problem),
}

/// Something that needs a second thought before it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Intent {
    DeleteJob(JobId),
    DeleteHistory,
    DeleteConversation(ConversationId),
    EraseWallet,
    ExportOpened(JobId),
    ExportConversation(ConversationId),
    ExportConversationOpened(ConversationId),
    ForgetChain,
}

/// A short message that leaves by itself, perhaps with a way back.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Toast {
    pub(crate) text: String,
    pub(crate) undo: Option<Draft>,
    pub(crate) serial: u32,
}

/// Everything.
#[derive(Clone, Copy)]
pub(crate) struct App {
    pub(crate) route: RwSignal<Route>,
    pub(crate) status: RwSignal<Status>,
    pub(crate) wallet: RwSignal<WalletView>,
    pub(crate) network: RwSignal<Option<NetworkView>>,
    pub(crate) blocks: RwSignal<VecDeque<BlockRow>>,
    pub(crate) block: RwSignal<Option<BlockDetail>>,
    pub(crate) conflict: RwSignal<Option<ConflictView>>,
    pub(crate) jobs: RwSignal<HashMap<JobId, JobView>>,
    pub(crate) progress: RwSignal<HashMap<JobId, Progress>>,
    pub(crate) history: RwSignal<Option<Vec<HistoryItem>>>,
    /// The models offered; `None` before the worker told.
    pub(crate) models: RwSignal<Option<Vec<ModelOffer>>>,
    /// Models this page asked to have prepared, and how, so that it asks once.
    pub(crate) wanted: RwSignal<HashMap<String, PreparationChoice>>,
    /// Who serves the shards of a model, by digest, as last asked.
    pub(crate) online: RwSignal<HashMap<String, OnlineView>>,
    /// Models whose nodes are being asked.
    pub(crate) asking: RwSignal<Option<String>>,
    /// The odds last told.
    pub(crate) odds: RwSignal<Option<OddsView>>,
    pub(crate) conversations: RwSignal<Option<Vec<ConversationItem>>>,
    /// Conversations seen in this visit, whole.
    pub(crate) talks: RwSignal<HashMap<ConversationId, Conversation>>,
    /// Answers as far as they are written.
    pub(crate) written: RwSignal<HashMap<JobId, WrittenView>>,
    /// The job last asked in each conversation.
    pub(crate) latest: RwSignal<HashMap<ConversationId, JobId>>,
    /// Chats typed in this visit and left for another; the current one is in `draft`.
    pub(crate) drafts: RwSignal<HashMap<Option<ConversationId>, ChatDraft>>,
    /// What the chat's button will do.
    pub(crate) act: RwSignal<Act>,
    /// Which input is on the page: what is priced and sent.
    pub(crate) mode: RwSignal<TaskKind>,
    pub(crate) drawing: RwSignal<Drawing>,
    /// Digest of the classifier chosen; `None` takes the first.
    pub(crate) reader: RwSignal<Option<String>>,
    /// Whether the drawer of the chat's settings is open.
    pub(crate) settings: RwSignal<bool>,
    /// Whether the title of the conversation is being changed.
    pub(crate) renaming: RwSignal<bool>,
    /// The answer whose ladder is beside the conversation; `None` for the last.
    pub(crate) inspected: RwSignal<Option<JobId>>,
    /// The import under way.
    pub(crate) importing: RwSignal<Option<RequestId>>,
    pub(crate) draft: RwSignal<Draft>,
    pub(crate) quote: RwSignal<QuoteState>,
    /// True when the quote belongs to what is in the input right now.
    pub(crate) priced: RwSignal<bool>,
    /// Send as soon as nothing stands in the way.
    pub(crate) armed: RwSignal<bool>,
    /// The latest quote asked for; older answers are dropped.
    pub(crate) quote_request: RwSignal<nesa_messages::RequestId>,
    pub(crate) donate: RwSignal<DonateView>,
    pub(crate) adapter: RwSignal<Option<AdapterReport>>,
    pub(crate) report: RwSignal<Option<ReceiptReport>>,
    pub(crate) checking: RwSignal<bool>,
    pub(crate) rechecking: RwSignal<Option<JobId>>,
    pub(crate) problem: RwSignal<Option<Problem>>,
    pub(crate) announced: RwSignal<String>,
    pub(crate) toast: RwSignal<Option<Toast>>,
    pub(crate) palette: RwSignal<bool>,
    pub(crate) intent: RwSignal<Option<Intent>>,
    pub(crate) theme: RwSignal<Theme>,
    /// Set between "create a wallet and fund it" and the wallet's answer.
    pub(crate) fund_next: RwSignal<bool>,
    serial: RwSignal<u32>,
}

impl App {
    /// Fresh state; the worker fills it.
    pub(crate) fn new() -> Self {
        Self {
            route: RwSignal::new(Route::default()),
            status: RwSignal::new(Status::default()),
            wallet: RwSignal::new(WalletView::default()),
            network: RwSignal::new(None),
            blocks: RwSignal::new(VecDeque::new()),
            block: RwSignal::new(None),
            conflict: RwSignal::new(None),
            jobs: RwSignal::new(HashMap::new()),
            progress: RwSignal::new(HashMap::new()),
            history: RwSignal::new(None),
            models: RwSignal::new(None),
            wanted: RwSignal::new(HashMap::new()),
            online: RwSignal::new(HashMap::new()),
            asking: RwSignal::new(None),
            odds: RwSignal::new(None),
            conversations: RwSignal::new(None),
            talks: RwSignal::new(HashMap::new()),
            written: RwSignal::new(HashMap::new()),
            latest: RwSignal::new(HashMap::new()),
            drafts: RwSignal::new(HashMap::new()),
            act: RwSignal::new(Act::Ask),
            mode: RwSignal::new(TaskKind::Search),
            drawing: RwSignal::new(Drawing::default()),
            reader: RwSignal::new(None),
            settings: RwSignal::new(false),
            renaming: RwSignal::new(false),
            inspected: RwSignal::new(None),
            importing: RwSignal::new(None),
            draft: RwSignal::new(Draft::default()),
            quote: RwSignal::new(QuoteState::default()),
            priced: RwSignal::new(false),
            armed: RwSignal::new(false),
            quote_request: RwSignal::new(0),
            donate: RwSignal::new(DonateView::default()),
            adapter: RwSignal::new(None),
            report: RwSignal::new(None),
            checking: RwSignal::new(false),
            rechecking: RwSignal::new(None),
            problem: RwSignal::new(None),
            announced: RwSignal::new(String::new()),
            toast: RwSignal::new(None),
            palette: RwSignal::new(false),
            intent: RwSignal::new(None),
            theme: RwSignal::new(Theme::stored()),
            fund_next: RwSignal::new(false),
            serial: RwSignal::new(0),
        }
    }

    /// The state of this page, from anywhere below the shell.
    pub(crate) fn get() -> Self {
        expect_context::<Self>()
    }

    /// A number never used before in this visit.
    pub(crate) fn next_serial(self) -> u32 {
        self.serial.update_untracked(|n| *n = n.wrapping_add(1));
        self.serial.get_untracked()
    }

    /// Says something to people who listen to the page instead of looking at it.
    pub(crate) fn announce(self, text: impl Into<String>) {
        self.announced.set(text.into());
    }

    /// Shows a short message for eight seconds.
    pub(crate) fn toast(self, text: impl Into<String>, undo: Option<Draft>) {
        const SHOWN: std::time::Duration = std::time::Duration::from_secs(8);
        let serial = self.next_serial();
        self.toast.set(Some(Toast { text: text.into(), undo, serial }));
        set_timeout(
            move || {
                if self.toast.with_untracked(|t| t.as_ref().is_some_and(|t| t.serial == serial)) {
                    self.toast.set(None);
                }
            },
            SHOWN,
        );
    }
}

/// Milliseconds since the epoch.
pub(crate) fn now_ms() -> f64 {
    js_sys::Date::now()
}
