//! Keeps what is in the input on the device, and asks for its price, once typing pauses.

use std::time::Duration;

use leptos::prelude::*;
use nesa_messages::{ModelPhase, TaskKind, ToWorker};

use crate::{
    bridge,
    state::{App, Gate, QuoteState},
};

/// Quiet time after the last change before the draft is stored and priced.
const DEBOUNCE: Duration = Duration::from_millis(350);

/// Makes the input on this page the one that is kept, priced and sent; what was sent too early goes
/// out once it can.
pub(crate) fn attend(app: App, kind: TaskKind) {
    app.mode.set(kind);
    app.armed.set(false);
    app.quote.set(QuoteState::Nothing);
    keep_and_price(app);
    let gate = Memo::new(move |_| app.gate());
    Effect::new(move |_| {
        if app.armed.get() && gate.get() == Gate::Open {
            app.ask();
        }
    });
    Effect::new(move |_| app.prepare_when_due());
}

fn keep_and_price(app: App) {
    let timer = StoredValue::new(None::<TimeoutHandle>);
    let stop = move || {
        if let Some(Some(timer)) = timer.try_update_value(Option::take) {
            timer.clear();
        }
    };
    // A new wallet, a new block of money or a loaded model can change the answer too.
    let ground = Memo::new(move |_| {
        (
            // Counting tokens needs the tokenizer, so nothing is priced before the model is here.
            matches!(app.model_phase(), ModelPhase::Ready { .. }),
            app.wallet.with(|w| (w.state, w.balances.clone())),
        )
    });
    let task = Memo::new(move |_| app.task());
    Effect::new(move |first: Option<()>| {
        let draft = app.draft.get();
        let (ready, _) = ground.get();
        let task = task.get().filter(|_| ready);
        app.priced.set(false);
        stop();
        let handle = set_timeout_with_handle(
            move || {
                if first.is_some() {
                    bridge::send(&ToWorker::SaveDraft { draft: draft.clone() });
                }
                let Some(task) = task else {
                    app.quote.set(QuoteState::Nothing);
                    return;
                };
                let request = app.next_serial();
                app.quote_request.set(request);
                if app.quote.with_untracked(|q| !matches!(q, QuoteState::Ready(_))) {
                    app.quote.set(QuoteState::Asking);
                }
                let options = draft.options.clone();
                bridge::send(&ToWorker::Quote { request, task, options });
            },
            DEBOUNCE,
        );
        timer.set_value(handle.ok());
    });
    on_cleanup(stop);
}
