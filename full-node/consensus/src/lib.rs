//! Validators: the commonware simplex engine driving the chain's rules over an authenticated store.
