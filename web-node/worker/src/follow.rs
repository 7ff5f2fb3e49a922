//! What comes after an answer in the lanes whose nodes commit and reveal: the chain is looked at until they
//! have published what they told and the escrow has ended, over reloads too.

use std::{rc::Rc, time::Duration};

use nesa_chain::query::Settlement;
use nesa_light::QueryError;
use nesa_messages::{ActivityKind, JobId, JobView, Problem};
use nesa_platform::time;
use nesa_primitives::Hash;

use crate::{
    app::App,
    problem::{Shown as _, not_ready},
    progress::life,
    sealed::show::is_open,
};

/// How often the chain is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(900);
/// A settlement that does not come is given up on, ms after it was due.
const GIVE_UP_MS: u64 = 60_000;

/// When a look was true, and when the query's escrow ends at the latest.
pub(crate) struct Seen {
    /// Height of the header under which the record was proven.
    pub(crate) height: u64,
    /// Block time, ms.
    pub(crate) close_ms: u64,
}

impl App {
    /// Follows a query beside everything else.
    pub(crate) fn follow_later(self: &Rc<Self>, id: JobId) {
        if self.following.borrow_mut().insert(id) {
            Self::run(self, move |app| async move {
                app.follow_up(id).await;
                app.following.borrow_mut().remove(&id);
                app.send_history().await;
                app.refresh_wallet().await;
            });
        }
    }

    /// Takes up every query of an earlier visit whose traces, answers or settlement are still to come.
    pub(crate) fn follow_open(self: &Rc<Self>) {
        let open: Vec<JobId> = {
            let running = self.running.borrow();
            let views = self.views.borrow();
            let open = views.values().filter(|view| is_open(view));
            open.map(|view| view.id).filter(|id| !running.contains_key(id)).collect()
        };
        for id in open {
            self.follow_later(id);
        }
    }

    /// Looks until nothing more is to be learnt, or there is no chain to look at.
    async fn follow_up(&self, id: JobId) {
        while self.chain().is_some() && self.views.borrow().get(&id).is_some_and(is_open) {
            match self.look(id).await {
                Ok(Some(seen)) if time::now_ms() > seen.close_ms.saturating_add(GIVE_UP_MS) => {
                    return;
                }
                // Nobody can be asked just now, or there is more to come.
                Ok(_) | Err(QueryError::Chain(_)) => {}
                Err(error) => {
                    let what = error.problem().what;
                    self.change_job(id, |view| life(view, &what, None)).await;
                    return;
                }
            }
            time::sleep(LOOK_EVERY).await;
        }
    }

    /// Looks once, for whoever asks to have it checked again.
    pub(crate) async fn look_again(&self, id: JobId) -> Result<(), Problem> {
        self.chain().ok_or_else(not_ready)?;
        let seen = self.look(id).await.map_err(|error| error.problem())?.ok_or_else(|| {
            let what = "There is nothing on the chain to check this answer with.";
            Problem::new("no-query", what, "It was not paid for, or comes from a file.")
        })?;
        let height = Some(seen.height);
        self.change_job(id, |view| life(view, "checked again by this device", height)).await;
        Ok(())
    }

    /// Shows what the chain says now; `None` while nobody shows it.
    async fn look(&self, id: JobId) -> Result<Option<Seen>, QueryError> {
        let float = self.views.borrow().get(&id).is_some_and(|view| view.float.is_some());
        if float { self.look_at_float(id).await } else { self.look_at_sealed(id).await }
    }

    /// Keeps what a look changed, and notes what came back.
    pub(crate) async fn take_look(
        &self,
        query: &Hash,
        before: JobView,
        after: JobView,
        settlement: Option<&Settlement>,
    ) {
        let returned = |view: &JobView| view.cost.as_ref().and_then(|cost| cost.returned);
        let ended = returned(&before).is_none() && returned(&after).is_some();
        if after != before {
            self.change_job(after.id, |view| *view = after).await;
        }
        if let Some(settlement) = settlement.filter(|_| ended) {
            let (what, change) = ("Back from a query".to_owned(), settlement.returned.to_string());
            self.note(*query, ActivityKind::Refund, what, change, Some(settlement.height)).await;
        }
    }
}
