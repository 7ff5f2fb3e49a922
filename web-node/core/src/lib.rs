//! A compute node: a light client with a kernel, run by native workers and volunteer tabs alike.
