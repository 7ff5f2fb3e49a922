//! The browser worker: light client, query client and volunteer node in one module.
