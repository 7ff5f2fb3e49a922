//! HTTP JSON, block events and static files for scripts, explorers and the playground.
