//! The messages the page and its worker exchange.
