//! The long-running processes: a validator with its services, and a compute node.

pub(crate) mod compute;
pub(crate) mod fetched;
pub(crate) mod float;
pub(crate) mod gpu;
pub(crate) mod link;
pub(crate) mod model;
pub(crate) mod report;
pub(crate) mod services;
pub(crate) mod source;
pub(crate) mod supervised;
pub(crate) mod validator;
