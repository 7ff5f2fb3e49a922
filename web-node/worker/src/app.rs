//! The worker's state and the sorting of messages.

use std::{
    cell::{Cell, OnceCell, RefCell},
    collections::{BTreeMap, BTreeSet, VecDeque},
    rc::Rc,
    sync::Arc,
};

use futures::{future::AbortHandle, lock::Mutex};
use js_sys::Function;
use nesa_fingerprint::Card;
use nesa_light::{
    LightClient, QueryClient, accounts::Accounts, models::Prepared, search::VectorCache,
    wallet::Wallet,
};
use nesa_messages::{
    Activity, Conversation, ConversationId, FromWorker, JobId, JobView, ModelOffer, ModelPhase,
    NetworkPhase, Status, ToWorker, Versions, WalletView,
};
use nesa_platform::{storage::Store, task};
use nesa_primitives::Hash;

use crate::{donate::Donation, port::Port, problem::Shown as _, text::TextWorkers};

/// The database of everything this origin keeps.
const DATABASE: &str = "nesa";

/// A chain that is being followed.
#[derive(Clone)]
pub(crate) struct Chain {
    pub(crate) light: LightClient,
    pub(crate) accounts: Accounts,
    pub(crate) queries: QueryClient,
    pub(crate) cache: VectorCache,
    /// Addresses of nodes, from the bootstrap.
    pub(crate) peers: Vec<String>,
    /// Models that the origin names: a hint.
    pub(crate) offered: Vec<Hash>,
    /// What it tells of those that run in floats, each checked for itself.
    pub(crate) cards: Rc<BTreeMap<Hash, Card>>,
}

/// Everything.
pub(crate) struct App {
    pub(crate) port: Port,
    /// Promises the module of the graphics adapter, which is loaded when first asked for.
    pub(crate) adapter: Function,
    /// Makes workers that hold the engine of models that run in floats.
    pub(crate) float: Function,
    /// Makes a worker that computes for a volunteer.
    pub(crate) pool: Function,
    /// The tokenizers of models that bring their own.
    pub(crate) text: Arc<TextWorkers>,
    store: OnceCell<Store>,
    pub(crate) status: RefCell<Status>,
    pub(crate) origin: RefCell<String>,
    pub(crate) build: RefCell<String>,
    pub(crate) chain: RefCell<Option<Chain>>,
    pub(crate) prepared: RefCell<Option<Prepared>>,
    /// Every model that is ready, that one included.
    pub(crate) ready: RefCell<BTreeMap<Hash, Prepared>>,
    /// Locked while a model is made ready.
    pub(crate) preparing: Mutex<()>,
    /// The models offered, as last proven.
    pub(crate) catalogue: RefCell<Vec<ModelOffer>>,
    /// The model of the last visit. Locked while it is read, which goes on beside connecting.
    pub(crate) early: Mutex<Option<Prepared>>,
    /// Locked until history and wallet are read.
    pub(crate) loading: Mutex<()>,
    pub(crate) wallet: RefCell<Option<Wallet>>,
    pub(crate) wallet_view: RefCell<WalletView>,
    pub(crate) activity: RefCell<VecDeque<Activity>>,
    pub(crate) running: RefCell<BTreeMap<JobId, AbortHandle>>,
    /// Queries of the sealed lane whose traces and money are being followed.
    pub(crate) following: RefCell<BTreeSet<JobId>>,
    pub(crate) views: RefCell<BTreeMap<JobId, JobView>>,
    pub(crate) conversations: RefCell<BTreeMap<ConversationId, Conversation>>,
    pub(crate) donation: RefCell<Option<Donation>>,
    /// Waits until the page has been hidden for long.
    pub(crate) hidden: RefCell<Option<task::Guard>>,
    /// The boot loop; replaced by a reconnect.
    pub(crate) boot: RefCell<Option<task::Guard>>,
    pub(crate) started: Cell<bool>,
}

impl App {
    pub(crate) fn new(
        port: Port,
        adapter: Function,
        text: Arc<TextWorkers>,
        float: Function,
        pool: Function,
    ) -> Self {
        let status = Status {
            versions: Versions {
                worker: env!("CARGO_PKG_VERSION").to_owned(),
                protocols: vec![
                    "/nesa/chain/1".to_owned(),
                    "/nesa/masked/1".to_owned(),
                    "/nesa/shard/1".to_owned(),
                    "/nesa/float/1".to_owned(),
                    "/nesa/chunks/1".to_owned(),
                ],
                kernel: "wasm simd128".to_owned(),
            },
            ..Status::default()
        };
        Self {
            port,
            adapter,
            float,
            pool,
            text,
            store: OnceCell::new(),
            status: RefCell::new(status),
            origin: RefCell::default(),
            build: RefCell::default(),
            chain: RefCell::default(),
            prepared: RefCell::default(),
            ready: RefCell::default(),
            preparing: Mutex::default(),
            catalogue: RefCell::default(),
            early: Mutex::default(),
            loading: Mutex::default(),
            wallet: RefCell::default(),
            wallet_view: RefCell::default(),
            activity: RefCell::default(),
            running: RefCell::default(),
            following: RefCell::default(),
            views: RefCell::default(),
            conversations: RefCell::default(),
            donation: RefCell::default(),
            hidden: RefCell::default(),
            boot: RefCell::default(),
            started: Cell::new(false),
        }
    }

    /// Runs `work` beside everything else, with its own handle on the state.
    pub(crate) fn run<F: Future<Output = ()> + 'static>(
        app: &Rc<Self>,
        work: impl FnOnce(Rc<Self>) -> F,
    ) -> task::Task {
        task::spawn(work(app.clone()))
    }

    /// Takes one message of the page.
    pub(crate) fn receive(app: &Rc<Self>, json: &str, bytes: Option<Vec<u8>>) {
        let message = match serde_json::from_str::<ToWorker>(json) {
            Ok(message) => message,
            Err(error) => {
                let problem = nesa_messages::Problem::new(
                    "unknown-message",
                    format!("The worker does not know this message: {error}."),
                    "Reload the page: page and worker are of different versions.",
                );
                return app.port.fail(None, None, problem);
            }
        };
        app.sort(message, bytes);
    }

    fn sort(self: &Rc<Self>, message: ToWorker, bytes: Option<Vec<u8>>) {
        match message {
            ToWorker::Start { origin, build } => {
                if self.started.replace(true) {
                    return self.send_everything();
                }
                self.origin.replace(origin);
                self.build.replace(build);
                Self::run(self, |app| async move { app.begin().await });
            }
            ToWorker::Visible { visible } => self.visible(visible),
            ToWorker::Reconnect => self.reconnect(),
            ToWorker::ForgetChain => {
                Self::run(self, |app| async move { app.forget_chain().await });
            }
            ToWorker::Wallet { command } => {
                Self::run(self, |app| async move { app.wallet_command(command).await });
            }
            ToWorker::Quote { request, task, options } => {
                Self::run(self, |app| async move { app.quote(request, task, options).await });
            }
            ToWorker::Run { job, task, options } => self.run_job(job, task, options),
            ToWorker::Cancel { job } => self.cancel(job),
            ToWorker::Recheck { job } => {
                Self::run(self, |app| async move { app.recheck(job).await });
            }
            ToWorker::OpenJob { job } => {
                Self::run(self, |app| async move { app.open_job(job).await });
            }
            ToWorker::DeleteJob { job } => {
                Self::run(self, |app| async move { app.delete_job(job).await });
            }
            ToWorker::DeleteHistory => {
                Self::run(self, |app| async move { app.delete_history().await });
            }
            ToWorker::SaveDraft { draft } => {
                Self::run(self, |app| async move { app.save_draft(&draft).await });
            }
            ToWorker::ExportPayment { job } => {
                Self::run(self, |app| async move { app.export_payment(job).await });
            }
            ToWorker::ExportOpened { job, consent } => {
                Self::run(self, |app| async move { app.export_opened(job, consent).await });
            }
            ToWorker::VerifyFile { request, name } => {
                let bytes = bytes.unwrap_or_default();
                Self::run(self, |app| async move { app.verify_file(request, name, bytes).await });
            }
            ToWorker::Nodes => {
                Self::run(self, |app| async move { app.nodes().await });
            }
            ToWorker::Block { height } => {
                Self::run(self, |app| async move { app.block(height).await });
            }
            ToWorker::Donate { limits } => {
                Self::run(self, |app| async move { app.donate(limits).await });
            }
            ToWorker::DonateLimits { limits } => self.donate_limits(limits),
            ToWorker::DonateStop => {
                Self::run(self, |app| async move { app.donate_stop().await });
            }
            ToWorker::Models => {
                Self::run(self, |app| async move { app.look_at_models().await });
            }
            ToWorker::PrepareModel { model, preparation } => {
                Self::run(self, |app| async move { app.prepare_model(model, preparation).await });
            }
            ToWorker::Online { model, shards } => {
                Self::run(self, |app| async move { app.online(model, shards).await });
            }
            ToWorker::Odds { replicas, shards } => self.odds(replicas, shards),
            ToWorker::Conversations => self.send_conversations(),
            ToWorker::OpenConversation { conversation } => self.open_conversation(conversation),
            ToWorker::SaveConversation { conversation } => {
                Self::run(self, |app| async move { app.save_conversation(*conversation).await });
            }
            ToWorker::DeleteConversation { conversation } => {
                Self::run(self, |app| async move { app.delete_conversation(conversation).await });
            }
            ToWorker::ExportConversation { conversation, openings, consent } => {
                Self::run(self, |app| async move {
                    app.export_conversation(conversation, openings, consent).await;
                });
            }
            ToWorker::ImportConversation { request, name } => {
                let bytes = bytes.unwrap_or_default();
                Self::run(self, |app| async move {
                    app.import_conversation(request, &name, &bytes).await;
                });
            }
            ToWorker::ProbeAdapter => {
                Self::run(self, |app| async move { app.probe_adapter().await });
            }
        }
    }

    /// Opens storage, says what is known, and starts the way to the network.
    async fn begin(self: Rc<Self>) {
        // Before anything that waits: whoever asks for what is kept must not find the way free.
        let loading = self.loading.lock().await;
        self.send_status();
        let store = match Store::open(DATABASE).await {
            Ok(store) => store,
            Err(error) => {
                // Private windows may have no storage: everything works, nothing is kept.
                self.port.fail(None, None, error.problem());
                Store::memory()
            }
        };
        // Set once: `begin` runs once.
        let _ = self.store.set(store);
        // Nothing here waits for another: the model and the wallet are read while peers are dialled.
        Self::run(&self, |app| async move { app.read_last_model().await });
        self.reconnect();
        // A job that was interrupted writes into its conversation.
        let kept = async {
            self.load_conversations().await;
            self.load_history().await;
        };
        futures::join!(kept, self.load_wallet());
        drop(loading);
    }

    /// Waits until history and wallet are read.
    pub(crate) async fn loaded(&self) {
        drop(self.loading.lock().await);
    }

    /// Where everything is kept. Memory until `begin` has opened it.
    pub(crate) fn store(&self) -> Store {
        self.store.get().cloned().unwrap_or_else(Store::memory)
    }

    /// The chain, once the first header is verified.
    pub(crate) fn chain(&self) -> Option<Chain> {
        self.chain.borrow().clone()
    }

    /// The model, once it is ready.
    pub(crate) fn prepared(&self) -> Option<Prepared> {
        self.prepared.borrow().clone()
    }

    /// Changes the status and sends it.
    pub(crate) fn set_status(&self, change: impl FnOnce(&mut Status)) {
        change(&mut self.status.borrow_mut());
        self.send_status();
    }

    pub(crate) fn send_status(&self) {
        let status = {
            let mut status = self.status.borrow_mut();
            status.can_pay = self.wallet.borrow().is_some();
            status.clone()
        };
        self.port.send(&FromWorker::Status { status });
    }

    pub(crate) fn set_network(&self, phase: NetworkPhase) {
        self.set_status(|status| status.network = phase);
    }

    pub(crate) fn set_model(&self, phase: ModelPhase) {
        self.set_status(|status| status.model_phase = phase);
    }

    /// A page that connected to a worker already running gets all of it again.
    fn send_everything(self: &Rc<Self>) {
        self.send_status();
        self.send_wallet();
        self.send_models();
        self.send_conversations();
        Self::run(self, |app| async move {
            app.send_history().await;
            let views: Vec<_> = app.views.borrow().values().cloned().collect();
            for job in views {
                app.port.send(&FromWorker::Job { job: Box::new(job) });
            }
        });
    }
}
