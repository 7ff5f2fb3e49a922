//! All the page knows, as one `Copy` struct of signals handed down by context.

mod actions;
mod files;
mod receive;
mod theme;

use std::collections::{HashMap, VecDeque};

use leptos::prelude::*;
use nesa_messages::{
    AdapterReport, BlockDetail, BlockRow, ConflictView, DonateView, Draft, HistoryItem, JobId,
    JobView, NetworkView, Problem, Progress, Quote, ReceiptReport, Status, WalletView,
};

pub(crate) use files::{download, read_bytes, read_text};
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

/// Whether a query can go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    /// Now.
    Open,
    /// By itself, once this is over; pressing the button already counts.
    Waiting(&'static str),
    /// Not before the user does something.
    Shut(&'static str),
}

/// Something that needs a second thought before it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Intent {
    DeleteJob(JobId),
    DeleteHistory,
    EraseWallet,
    ExportOpened(JobId),
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
