//! A verification state as icon, word and colour. Green exists nowhere else.

use leptos::prelude::*;
use nesa_messages::StepState;

use super::icon;

/// Class name that carries the colour.
pub(crate) fn state_class(state: StepState) -> &'static str {
    match state {
        StepState::Pending => "pending",
        StepState::Verified => "verified",
        StepState::Failed => "failed",
        StepState::NotChecked => "not-checked",
        StepState::Evidence => "statistical",
    }
}

/// The icon alone, where the word stands elsewhere.
pub(crate) fn state_icon(state: StepState) -> impl IntoView {
    icon(state_class(state))
}

/// The word for a state.
pub(crate) fn state_word(state: StepState) -> &'static str {
    match state {
        StepState::Pending => "Pending",
        StepState::Verified => "Verified here",
        StepState::Failed => "Failed",
        StepState::NotChecked => "Not checked",
        StepState::Evidence => "Statistical evidence",
    }
}

/// Icon and word.
#[component]
pub(crate) fn StateBadge(#[prop(into)] state: Signal<StepState>) -> impl IntoView {
    view! {
        <span class=move || format!("state {}", state_class(state.get()))>
            {move || state_icon(state.get())} {move || state_word(state.get())}
        </span>
    }
}
