//! Stands in for the engine and the policy compiler until they are here: passes everything, and waits on paths below `/wait`.

use std::rc::Rc;

use crate::engine::effect::{Effect, Flow, Handle, Reply};
use crate::engine::event::Event;
use crate::now::Now;
use crate::policy::bundle::{Bundle, Collector, HostMode, Models, OnUnknown, Unknown};
use crate::quota::Cells;

pub struct Callout {
    pub cluster: String,
    pub path: &'static str,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
    pub timeout_ms: u64,
    pub token: u64,
}

pub struct Vm {
    wanted: bool,
    out: Option<u64>,
    next: u64,
    waiting: Vec<Handle>,
    granted: bool,
}

impl Vm {
    pub fn new(_: Rc<Bundle>, _seed: u64) -> Self {
        Self { wanted: false, out: None, next: 0, waiting: vec![], granted: false }
    }
    pub fn adopt(&mut self, _: Rc<Bundle>) {}
    pub fn tick(&mut self, _: Now, _: &mut dyn Cells, _: &mut Vec<Effect>) {}
    pub fn sync(&mut self, _: Now, _: &mut dyn Cells, _: &mut Vec<Effect>) -> Option<Callout> {
        if !std::mem::take(&mut self.wanted) || self.out.is_some() {
            return None;
        }
        self.next += 1;
        self.out = Some(self.next);
        Some(Callout {
            cluster: "farebox-collector".into(),
            path: "/v1/sync",
            headers: vec![("content-type", "application/vnd.msgpack".into())],
            body: vec![0xff, 0x00],
            timeout_ms: 2000,
            token: self.next,
        })
    }
    pub fn answered(
        &mut self,
        token: u64,
        answer: Option<(u16, &[u8])>,
        _: Now,
        _: &mut dyn Cells,
        effects: &mut Vec<Effect>,
    ) {
        if self.out != Some(token) {
            return;
        }
        self.out = None;
        self.granted = answer.is_some_and(|(status, _)| status == 200);
        effects.push(Effect::Wake(std::mem::take(&mut self.waiting)));
    }
    pub fn orphaned(&mut self) {
        self.out = None;
    }
}

pub struct Exchange {
    handle: Handle,
    waits: bool,
    until: u64,
    upper: bool,
}

impl Exchange {
    pub fn new(_: Rc<Bundle>, handle: Handle) -> Self {
        Self { handle, waits: false, until: 0, upper: false }
    }

    pub fn handle(
        &mut self,
        event: Event<'_>,
        now: Now,
        vm: &mut Vm,
        _: &mut dyn Cells,
        effects: &mut Vec<Effect>,
    ) -> Flow {
        match event {
            Event::RequestHeaders { headers, end, .. } => {
                let value = |wanted: &[u8]| headers.iter().find(|(name, _)| name == wanted).map(|(_, value)| value);
                self.waits = value(b":path").is_some_and(|path| path.starts_with(b"/wait"));
                self.upper = value(b":path").is_some_and(|path| path.ends_with(b"upper"));
                if value(b"upgrade").is_some() || value(b":method").is_some_and(|method| method == b"CONNECT") {
                    return self.admit(effects);
                }
                if end && self.waits {
                    return self.wait(now, vm, effects);
                }
                if end {
                    return self.admit(effects);
                }
                effects.push(Effect::Note("admitted", "seen".into()));
                Flow::Hold
            }
            Event::RequestBody { body, end: true } => {
                if self.waits {
                    return self.wait(now, vm, effects);
                }
                self.change(body, effects);
                self.admit(effects)
            }
            Event::RequestBody { .. } => Flow::Hold,
            Event::Woken { body } => {
                if vm.granted {
                    self.change(body, effects);
                    return self.admit(effects);
                }
                if now.mono_ms >= self.until || vm.out.is_none() {
                    let headers = vec![("content-type".into(), "application/json".into())];
                    return Flow::Reply(Reply { status: 429, headers, body: b"{}".to_vec() });
                }
                Flow::Hold
            }
            Event::Over { cause, attempts } => {
                effects.push(Effect::Note("outcome", format!("{cause:?} {attempts}")));
                effects.push(Effect::Count {
                    metric: "exchanges_total",
                    labels: vec![("outcome", format!("{cause:?}")), ("plan", "a.b=c;d".into())],
                    by: 1,
                });
                Flow::Continue
            }
            _ => Flow::Continue,
        }
    }

    fn change(&self, body: &[u8], effects: &mut Vec<Effect>) {
        if self.upper {
            let mut body = body.to_ascii_uppercase();
            body.extend_from_slice(b"!!!");
            effects.push(Effect::ReplaceRequestBody(body));
        }
    }

    fn wait(&mut self, now: Now, vm: &mut Vm, effects: &mut Vec<Effect>) -> Flow {
        self.until = now.mono_ms + 500;
        vm.waiting.push(self.handle);
        vm.wanted = true;
        effects.extend([Effect::SyncSoon, Effect::WakeAt(self.until)]);
        Flow::Hold
    }

    fn admit(&self, effects: &mut Vec<Effect>) -> Flow {
        effects.push(Effect::Note("admitted", "yes".into()));
        Flow::Continue
    }
}

pub fn compile(text: &str) -> Result<Bundle, Vec<String>> {
    if !text.starts_with("farebox: 1") && !text.contains("\"farebox\": 1") {
        return Err(vec!["1:1: no policy".into()]);
    }
    let headers = if text.contains("headers: first") || text.contains("\"headers\": \"first\"") { HostMode::First } else { HostMode::Held };
    Ok(Bundle {
        name: "stand-in".into(),
        version: "1".into(),
        hash: 0,
        headers,
        credentials: vec![],
        trusted_proxies: 0,
        keys: vec![],
        seats: vec![],
        models: Models { rows: vec![] },
        plans: vec![],
        unknown: Unknown { path: OnUnknown::Pass, body: OnUnknown::Pass },
        collector: Some(Collector {
            cluster: "farebox-collector".into(),
            sync_ms: 1000,
            buffer_bytes: 1 << 20,
            patience_ms: 500,
        }),
    })
}
