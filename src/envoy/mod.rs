//! The filter's side of proxy-wasm.
