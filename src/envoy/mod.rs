//! The Envoy host: callbacks become events, effects become host calls. It decides nothing.
//!
//! How the host behaves was tried on Envoy 1.40; comments here state the behaviour that a line depends on.

#[cfg(feature = "bench")]
mod bench;
mod host;
#[cfg(feature = "test-hooks")]
mod probe;
mod root;
mod station;
mod stream;
mod tries;

use crate::engine::effect::Severity;

proxy_wasm::main! {{
    // Without this, only an address in the module says where it was.
    std::panic::set_hook(Box::new(|panic| host::log(Severity::Error, &format!("farebox: {panic}"))));
    proxy_wasm::set_root_context(|id| Box::new(root::Root::new(id)));
}}
