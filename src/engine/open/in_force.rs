//! The limits in force while a call runs. A plan without a version may be edited meanwhile, and other limits then hold for
//! counters that run, hence for what is still to be held of them. All else is as the call was admitted.

use std::borrow::Cow;
use std::rc::Rc;

use crate::engine::vm::Vm;
use crate::policy::bundle::{Bundle, Plan};
use crate::quota::{Level, Quota};

/// See the module's docs.
pub(super) struct InForce {
    /// The policy that has taken the place of the one by which the call was admitted, and the plan's name.
    edited: Option<(Rc<Bundle>, String)>,
}

impl InForce {
    /// For a call that was admitted by a plan of this policy.
    pub fn of(bundle: &Bundle, plan: &Plan, vm: &Vm) -> Self {
        let edited = (!std::ptr::eq(bundle, &raw const *vm.bundle)).then(|| (Rc::clone(&vm.bundle), plan.label()));
        Self { edited }
    }

    /// The quota with the limit that is in force; as it is where that knows none.
    pub fn quota<'q>(&self, quota: &'q Quota) -> Cow<'q, Quota> {
        let limit = self.edited.as_ref().and_then(|(bundle, label)| {
            // The plan may have another name since, or be sold under a version; what was sold under one stays as it was.
            let same = bundle.plans.iter().filter(|plan| plan.label() == *label);
            let of = |sold: bool| {
                bundle.plans.iter().filter(move |plan| plan.version.is_some() == sold && !label.contains('@'))
            };
            let quotas = same.chain(of(false)).chain(of(true)).flat_map(|plan| &plan.quotas);
            let mut all = quotas.chain(bundle.packs.iter().map(|pack| &pack.fund)).map(|known| &known.quota);
            all.find(|known| known.id == quota.id && known.granted == quota.granted).map(|known| known.limit)
        });
        match limit.filter(|limit| *limit != quota.limit) {
            Some(limit) => Cow::Owned(Quota { limit, ..quota.clone() }),
            None => Cow::Borrowed(quota),
        }
    }

    /// Lets what is to be held be judged by them.
    pub fn apply(&self, levels: &mut [Level]) {
        if self.edited.is_none() {
            return;
        }
        for line in levels.iter_mut().flat_map(|level| &mut level.lines) {
            if let Cow::Owned(quota) = self.quota(&line.quota) {
                line.quota = quota;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use serde_json::json;

    use crate::engine::effect::Effect;
    use crate::engine::event::Event;
    use crate::engine::exchange::Exchange;
    use crate::engine::vm::Vm;
    use crate::now::Now;
    use crate::policy;
    use crate::policy::bundle::Bundle;
    use crate::sim::SharedData;
    use crate::sim::call::header;

    /// Its one key is `key-ann`; slices are of 100 tokens.
    fn bundle(limit: u32) -> Rc<Bundle> {
        called("p", limit)
    }

    fn called(plan: &str, limit: u32) -> Rc<Bundle> {
        let text = format!(
            "farebox: 1\nbundle: {{name: b, version: '1'}}\nidentity: [{{key: [authorization]}}]\n\
             models: {{'*': {{count: o200k_base}}}}\nplans: {{'{plan}': {{tokens: {{hold: {{stream: slices, slice: 100, share: all}}, caps: \
             {{all: {{limit: {limit} output tokens, per: seat, window: lifetime}}}}}}}}}}\nassign: [{{otherwise: '{plan}'}}]\n\
             seats: {{ann: {{org: o, keys: \
             ['sha256:a82937400c2cc11407f5bb2f9af56eded40d3002f15bdf996f5b70917bf8edb1']}}}}\n"
        );
        Rc::new(policy::compile(&text, "b").unwrap_or_else(|faults| panic!("{text}{faults:?}")))
    }

    /// Words of a stream that are delivered when the limit is this one at first, and that one once it runs.
    fn delivered(first: u32, then: u32) -> usize {
        delivered_by(first, &bundle(then))
    }

    fn delivered_by(first: u32, then: &Rc<Bundle>) -> usize {
        let mut vm = Vm::new(bundle(first), 7, [7; 2]);
        let shared = Rc::new(SharedData::new());
        let mut exchange = Exchange::new(Rc::clone(&vm.bundle), 1);
        let now = Now { wall_ms: 1_795_608_000_000, mono_ms: 5 };
        let mut tell = |event: Event<'_>, vm: &mut Vm| {
            let mut effects = Vec::new();
            exchange.handle(event, now, vm, &mut shared.cells(0), &mut effects);
            effects
        };
        let request = [
            header(":method", "POST"),
            header(":path", "/v1/chat/completions"),
            header("authorization", "Bearer key-ann"),
        ];
        tell(Event::RequestHeaders { headers: &request, peer: None, vouched: &[], end: false }, &mut vm);
        let body = json!({"model": "m", "stream": true, "max_tokens": 5_000, "messages": []}).to_string();
        tell(Event::RequestBody { body: body.as_bytes(), end: true }, &mut vm);
        let headers = [header(":status", "200"), header("content-type", "text/event-stream")];
        tell(Event::ResponseHeaders { headers: &headers, upstream: true, attempts: 1, end: false }, &mut vm);
        let mut words = 0;
        for at in 0..600 {
            if at == 50 {
                vm.adopt(Rc::clone(then));
            }
            let chunk = format!("data: {}\n\n", json!({"choices": [{"index": 0, "delta": {"content": " word"}}]}));
            let effects = tell(Event::ResponseBody { chunk: chunk.as_bytes(), end: false }, &mut vm);
            let said = effects.into_iter().find_map(|effect| match effect {
                Effect::ReplaceChunk(bytes) => Some(String::from_utf8(bytes).unwrap()),
                _ => None,
            });
            words += said.unwrap_or(chunk).matches(" word").count();
        }
        words
    }

    #[test]
    fn a_stream_goes_on_by_the_limit_that_is_in_force() {
        assert_eq!(delivered(400, 400), 400);
        assert_eq!(delivered(400, 250), 250);
        assert_eq!(delivered(400, 500), 500);
        assert_eq!(delivered(400, 10), 200, "what is held already may be delivered");
        assert_eq!(delivered_by(400, &called("p@1", 250)), 250, "its plan is sold under a version now");
    }
}
