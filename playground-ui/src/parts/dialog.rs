//! The second thought before something that cannot be undone.

use leptos::{html, prelude::*};

use crate::state::{App, Intent};

struct Words {
    title: &'static str,
    text: &'static str,
    action: &'static str,
}

fn words(intent: Intent) -> Words {
    match intent {
        Intent::DeleteJob(_) => Words {
            title: "Delete this entry?",
            text: "The question, the answer and its receipts are removed from this device. \
                Nothing else holds the question. What is on the chain stays there.",
            action: "Delete",
        },
        Intent::DeleteHistory => Words {
            title: "Delete all history?",
            text: "Every conversation, answer, receipt, cached vector and draft is removed from this \
                device. The wallet stays.",
            action: "Delete all",
        },
        Intent::DeleteConversation(_) => Words {
            title: "Delete this conversation?",
            text: "Its messages, answers and receipts are removed from this device. Nothing else \
                holds them. What is on the chain stays there.",
            action: "Delete",
        },
        Intent::ExportConversation(_) => Words {
            title: "Export this conversation?",
            text: "The file shows everything that was said, to whoever has it, with the payment \
                receipt of each answer. This page can import it again.",
            action: "I agree, export it",
        },
        Intent::ExportConversationOpened(_) => Words {
            title: "Export this conversation with its opened receipts?",
            text: "The file shows everything that was said and the masks that hid it. Whoever has \
                it can check for themselves that every layer of every kept answer was computed \
                right.",
            action: "I agree, export it",
        },
        Intent::EraseWallet => Words {
            title: "Remove the wallet from this device?",
            text: "Without a backup file and its passphrase the balance is lost for ever.",
            action: "Remove wallet",
        },
        Intent::ExportOpened(_) => Words {
            title: "Export the opened receipt?",
            text: "This file contains your question and every passage that was sent, together with \
                the masks that hid them. Whoever has the file can read all of it, and can check \
                for themselves that every layer was computed right.",
            action: "I agree, export it",
        },
        Intent::ForgetChain => Words {
            title: "Forget this chain?",
            text: "This device pinned a trust root on an earlier visit. If you did not expect the \
                network to change, somebody may be showing you another one. Forgetting also removes \
                verified headers and prepared checks; wallet and history stay.",
            action: "Forget and start over",
        },
    }
}

/// One dialog for all intents; opening and closing follow the signal.
#[component]
pub(crate) fn Confirm() -> impl IntoView {
    let app = App::get();
    let dialog = NodeRef::<html::Dialog>::new();
    Effect::new(move |_| {
        let Some(dialog) = dialog.get() else { return };
        match (app.intent.get(), dialog.open()) {
            (Some(_), false) => {
                let _ = dialog.show_modal();
            }
            (None, true) => dialog.close(),
            _ => {}
        }
    });
    view! {
        <dialog node_ref=dialog aria-labelledby="confirm-title" on:close=move |_| app.intent.set(None)>
            {move || app.intent.get().map(|intent| {
                let w = words(intent);
                view! {
                    <div class="dialog-body">
                        <h2 id="confirm-title">{w.title}</h2>
                        <p>{w.text}</p>
                        <div class="row">
                            <button type="button" class="btn" on:click=move |_| app.intent.set(None)>"Keep it"</button>
                            <button type="button" class="btn danger" on:click=move |_| app.confirm(intent)>{w.action}</button>
                        </div>
                    </div>
                }
            })}
        </dialog>
    }
}
