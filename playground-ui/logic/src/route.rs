//! Which page, from the address fragment: deep links without a server.

use nesa_messages::{ConversationId, JobId};

/// A page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Route {
    /// Search documents: the first page.
    #[default]
    Playground,
    /// Begin a conversation.
    Chat,
    /// One conversation.
    Conversation(ConversationId),
    /// Draw a digit.
    Digit,
    /// Run a float model.
    Float,
    /// Classify a text.
    Classify,
    /// One query and its answer.
    Job(JobId),
    /// Live blocks and nodes.
    Network,
    /// One block.
    Block(u64),
    /// The wallet.
    Wallet,
    /// Serve with this browser.
    Donate,
    /// Check a receipt.
    Verify,
    /// Promises and limits.
    About,
}

impl Route {
    /// Reads `#/…`; anything unknown is the playground, so that a broken link still helps.
    pub fn parse(fragment: &str) -> Self {
        let path = fragment.trim_start_matches('#').trim_matches('/');
        let mut parts = path.split('/');
        let number = |part: Option<&str>| part.and_then(|p| p.parse::<u64>().ok());
        match parts.next() {
            Some("chat") => Self::Chat,
            Some("c") => number(parts.next()).map_or(Self::Chat, Self::Conversation),
            Some("digit") => Self::Digit,
            Some("float") => Self::Float,
            Some("classify") => Self::Classify,
            Some("q") => number(parts.next()).map_or(Self::Playground, Self::Job),
            Some("block") => number(parts.next()).map_or(Self::Network, Self::Block),
            Some("network") => Self::Network,
            Some("wallet") => Self::Wallet,
            Some("donate") => Self::Donate,
            Some("verify") => Self::Verify,
            Some("about") => Self::About,
            _ => Self::Playground,
        }
    }

    /// The fragment to link to.
    pub fn href(self) -> String {
        match self {
            Self::Playground => "#/".to_owned(),
            Self::Chat => "#/chat".to_owned(),
            Self::Conversation(id) => format!("#/c/{id}"),
            Self::Digit => "#/digit".to_owned(),
            Self::Float => "#/float".to_owned(),
            Self::Classify => "#/classify".to_owned(),
            Self::Job(id) => format!("#/q/{id}"),
            Self::Network => "#/network".to_owned(),
            Self::Block(height) => format!("#/block/{height}"),
            Self::Wallet => "#/wallet".to_owned(),
            Self::Donate => "#/donate".to_owned(),
            Self::Verify => "#/verify".to_owned(),
            Self::About => "#/about".to_owned(),
        }
    }

    /// The navigation entry this page belongs to.
    pub fn section(self) -> Self {
        match self {
            Self::Chat
            | Self::Conversation(_)
            | Self::Digit
            | Self::Float
            | Self::Classify
            | Self::Job(_) => Self::Playground,
            Self::Block(_) => Self::Network,
            other => other,
        }
    }

    /// Name in the navigation and the window title.
    pub fn title(self) -> &'static str {
        match self {
            Self::Playground => "Playground",
            Self::Chat => "Chat",
            Self::Conversation(_) => "Conversation",
            Self::Digit => "Read a digit",
            Self::Float => "Run any model",
            Self::Classify => "Classify a text",
            Self::Job(_) => "Answer",
            Self::Network => "Network",
            Self::Block(_) => "Block",
            Self::Wallet => "Wallet",
            Self::Donate => "Donate",
            Self::Verify => "Verify",
            Self::About => "About",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Route;

    #[test]
    fn every_route_survives_its_own_link() {
        for route in [
            Route::Playground,
            Route::Chat,
            Route::Conversation(1_700_000_000_124),
            Route::Digit,
            Route::Float,
            Route::Classify,
            Route::Job(1_700_000_000_123),
            Route::Network,
            Route::Block(0),
            Route::Wallet,
            Route::Donate,
            Route::Verify,
            Route::About,
        ] {
            assert_eq!(Route::parse(&route.href()), route);
        }
    }

    #[test]
    fn broken_links_lead_somewhere_useful() {
        assert_eq!(Route::parse(""), Route::Playground);
        assert_eq!(Route::parse("#/nowhere/else"), Route::Playground);
        assert_eq!(Route::parse("#/block/minus"), Route::Network);
        assert_eq!(Route::parse("#/q/x"), Route::Playground);
        assert_eq!(Route::parse("#/c/-1"), Route::Chat);
    }
}
