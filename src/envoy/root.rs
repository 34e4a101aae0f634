//! The root context: configuration, tick, callouts.

use std::rc::Rc;

use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::ContextType;

use super::host::{self, Buffer, Map, SharedData};
use super::station::{Site, Station, TICK_MS, complain};
use super::stream::Stream;
use crate::engine::charter::{self, InForce};
use crate::engine::effect::Severity;
use crate::policy;
use crate::policy::bundle::Bundle;

/// One plugin configuration.
pub struct Root {
    id: u32,
    running: Option<(Rc<Station>, Rc<Bundle>)>,
}

/// What is said where another build of this filter has kept what this one cannot read.
const UNREADABLE: &str = "what the policy in force promised was kept by a build of the filter that this one cannot read; this \
                          once nothing holds the policy to it, so see that `farebox check NEW --against OLD` takes it";

impl Root {
    /// Not configured yet.
    pub fn new(id: u32) -> Self {
        Self { id, running: None }
    }
}

impl RootContext for Root {
    // Runs in a throw-away VM too, once for each new configuration, so nothing here is seen outside of the VM.
    fn on_configure(&mut self, _: usize) -> bool {
        let text = host::buffer(Buffer::Configuration).unwrap_or_default();
        let compiled = match std::str::from_utf8(&text) {
            Ok(text) => policy::enforced(text, "policy"),
            Err(_) => {
                host::log(Severity::Error, "policy: not UTF-8; pass it as google.protobuf.StringValue");
                return false;
            }
        };
        let follows = compiled.and_then(|bundle| {
            let faults = match charter::in_force(&bundle.name, &mut SharedData) {
                InForce::Charter(before) => bundle.charter.follow(&before, "policy"),
                InForce::Nothing => Vec::new(),
                InForce::Unreadable => {
                    host::log(Severity::Warn, &format!("policy: {UNREADABLE}"));
                    Vec::new()
                }
            };
            if faults.is_empty() { Ok(bundle) } else { Err(faults) }
        });
        match follows {
            Ok(bundle) => {
                let bundle = Rc::new(bundle);
                self.running = Some((Station::of(&bundle), bundle));
                complain("set the tick", host::set_tick_period(TICK_MS));
                true
            }
            Err(diagnostics) => {
                for diagnostic in diagnostics {
                    host::log(Severity::Error, &diagnostic.one_line());
                }
                false
            }
        }
    }

    fn on_tick(&mut self) {
        if let Some((station, _)) = &self.running {
            station.tick(self.id);
        }
    }

    // Not a queue of the host's: a stream asks for a callout that belongs to this root (`host::run_in_root`).
    fn on_queue_ready(&mut self, _: u32) {
        if let Some((station, _)) = &self.running {
            station.sync(self.id);
        }
    }

    fn create_http_context(&self, id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Stream::new(id, self.id, self.running.clone())))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

impl Context for Root {
    fn on_http_call_response(&mut self, token: u32, headers: usize, _: usize, _: usize) {
        let Some((station, _)) = &self.running else { return };
        // No headers is how the host says that the call failed, and nothing else of it may be read then.
        let status = if headers == 0 { None } else { host::header(Map::Callout, ":status") };
        let status = status.and_then(|text| String::from_utf8(text).ok()?.parse().ok());
        let body = if status.is_some() { host::buffer(Buffer::Callout).unwrap_or_default() } else { Vec::new() };
        station.answered(token, status.map(|status| (status, body.as_slice())));
        station.turn(Site::Root(self.id));
    }

    fn on_done(&mut self) -> bool {
        if let Some((station, _)) = &self.running {
            station.root_ends(self.id);
        }
        true
    }
}
