//! One facade each for spawn, time, storage, randomness and network, native and in the browser.
