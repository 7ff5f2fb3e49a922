//! Line icons, drawn here so that nothing is fetched.

use leptos::prelude::*;

/// An icon of 20 px; decoration only, the word beside it carries the meaning.
pub(crate) fn icon(name: &'static str) -> impl IntoView {
    view! {
        <svg width="20" height="20" viewBox="0 0 24 24" fill="none" stroke="currentColor"
            stroke-width="1.75" stroke-linecap="round" stroke-linejoin="round" aria-hidden="true">
            <path d=path(name)></path>
        </svg>
    }
}

fn path(name: &str) -> &'static str {
    match name {
        "verified" => "M12 3a9 9 0 1 0 0 18a9 9 0 0 0 0-18M8 12.3l2.7 2.7L16 9.5",
        "pending" => "M12 3a9 9 0 1 0 0 18a9 9 0 0 0 0-18M12 7.5V12l3 2",
        "failed" => "M12 3a9 9 0 1 0 0 18a9 9 0 0 0 0-18M9 9l6 6M15 9l-6 6",
        "not-checked" => "M12 3a9 9 0 1 0 0 18a9 9 0 0 0 0-18M8 12h8",
        "statistical" => "M4 13c2.500-4.500 5.500-4.500 8-1s5.500 3.500 8-1M4 19h16",
        "search" => "M11 4a7 7 0 1 0 0 14a7 7 0 0 0 0-14M16 16l4.5 4.5",
        "network" => {
            "M12 3v6M12 15v6M5 8l5 3M14 13l5 3M19 8l-5 3M10 13l-5 3M12 9a3 3 0 1 0 0 6a3 3 0 0 0 0-6"
        }
        "donate" => "M4 13v6h4v-6zM10 8v11h4V8zM16 4v15h4V4z",
        "wallet" => {
            "M4 7h14a2 2 0 0 1 2 2v9a2 2 0 0 1-2 2H6a2 2 0 0 1-2-2V7a2 2 0 0 1 2-2h10M16 13.5h.5"
        }
        "verify" => "M7 3h7l5 5v13H7zM14 3v5h5M9.5 14.5l2 2l4-4",
        "about" => "M12 3a9 9 0 1 0 0 18a9 9 0 0 0 0-18M12 11v5.5M12 7.6v.1",
        "copy" => "M9 9h11v11H9zM15 9V4H4v11h5",
        "close" => "M6 6l12 12M18 6L6 18",
        "command" => {
            "M9 9h6v6H9zM9 9H6.5A2.5 2.5 0 1 1 9 6.500zM15 9V6.500A2.5 2.5 0 1 1 17.500 9zM15 15h2.500a2.500 2.500 0 1 1-2.500 2.500zM9 15v2.500A2.500 2.500 0 1 1 6.500 15z"
        }
        "history" => "M4 5v4.500h4.500M4.600 9.500A8.300 8.300 0 1 1 3.700 13M12 8v4.500l3 1.700",
        "trash" => "M5 7h14M10 7V4.500h4V7M7 7l.8 12.500h8.400L17 7M10.500 11v5M13.500 11v5",
        "plus" => "M12 5v14M5 12h14",
        "settings" => "M4 7h9M17 7h3M4 17h3M11 17h9M15 4.500v5M9 14.500v5",
        "send" => "M12 19V5M6 11l6-6l6 6",
        "stop" => "M6 6h12v12H6z",
        "shield" => {
            "M12 3l7.500 3v5.500c0 4.500-3 7.800-7.500 9.500c-4.500-1.700-7.500-5-7.500-9.500V6z"
        }
        _ => "M5 12h14",
    }
}
