//! Light, dark, or as the system says.

use leptos::prelude::{document, window};

const KEY: &str = "nesa-theme";

/// The chosen colours. The only thing the page itself stores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Theme {
    #[default]
    System,
    Light,
    Dark,
}

impl Theme {
    /// What was chosen on an earlier visit.
    pub(crate) fn stored() -> Self {
        let name = window().local_storage().ok().flatten().and_then(|s| s.get_item(KEY).ok());
        match name.flatten().as_deref() {
            Some("light") => Self::Light,
            Some("dark") => Self::Dark,
            _ => Self::System,
        }
    }

    /// The next one in turn.
    pub(crate) fn next(self) -> Self {
        match self {
            Self::System => Self::Light,
            Self::Light => Self::Dark,
            Self::Dark => Self::System,
        }
    }

    /// Name for people and for the `data-theme` attribute.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Light => "light",
            Self::Dark => "dark",
        }
    }

    /// Applies and remembers. A browser without storage keeps it for this visit.
    pub(crate) fn apply(self) {
        if let Some(root) = document().document_element() {
            let _ = root.set_attribute("data-theme", self.name());
        }
        if let Ok(Some(storage)) = window().local_storage() {
            let _ = storage.set_item(KEY, self.name());
        }
    }
}
