//! How precisely the input of a call is known.
//!
//! To count a long prompt is the dearest step of an admission, and mostly in vain: where every quota has room for many
//! such calls, a bound that costs nothing admits it as well, and in the end its provider says what it came to. So a call
//! is weighed by the bound first. It is counted where the room is not ample
//! ([`with_ample_room`](crate::engine::admission::with_ample_room)), where the policy says so (`count: always`), and when
//! it has ended and its provider was silent. For that its text is kept until then, in a room of fixed size; a call that
//! finds no place there is counted at once.

use std::cell::Cell;
use std::rc::Rc;

use crate::engine::guard;
use crate::meter::call::{Call, Input};
use crate::meter::count::Encoding;
use crate::meter::count::known::Known;
use crate::policy::bundle::{Lost, Plan};

/// The fewest bytes for which it is worth it, of those that this VM does not know already: counting them takes about
/// 100 µs.
const WORTH: usize = 1 << 14;
/// Bytes of the room in which texts are kept that may still have to be counted, for each VM.
const ROOM: usize = 1 << 20;

/// The room in which texts are kept.
#[derive(Clone, Debug, Default)]
pub(super) struct Shelf(Rc<Cell<usize>>);

/// A call whose input was only bounded.
#[derive(Debug)]
pub(super) struct Kept {
    call: Call,
    bytes: usize,
    shelf: Shelf,
}

/// Input tokens of a call, as far as they are known.
#[derive(Debug)]
pub(super) enum Gauge {
    /// As counted here.
    Counted(u64),
    /// No more than these.
    Bounded(u64, Box<Kept>),
}

impl Shelf {
    /// What the input of a call comes to at most, where it is worth it not to count it, and there is a place to keep it.
    pub fn bound(&self, plan: &Plan, call: &Call, encoding: Encoding, known: &mut Known) -> Option<u64> {
        // Who is charged what was delivered although its VM died has its input in the draft of the record.
        let counts = plan.hold.counts_always || plan.hold.lost == Lost::Delivered;
        let long = call.body().len() >= WORTH && !counts;
        let room = ROOM.saturating_sub(self.0.get());
        if !long || call.weight() > room {
            return None;
        }
        // What is longer is refused, and not worth more work here than there.
        let (bound, unknown) = call.input_at_most(encoding, known, guard::told_input(plan))?;
        (unknown >= WORTH).then_some(bound)
    }

    /// Keeps a call that was admitted by such a bound.
    pub fn keep(&self, call: Call, bound: u64) -> Gauge {
        let bytes = call.weight();
        self.0.set(self.0.get().saturating_add(bytes));
        Gauge::Bounded(bound, Box::new(Kept { call, bytes, shelf: self.clone() }))
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let Shelf(taken) = &self.shelf;
        taken.set(taken.get().saturating_sub(self.bytes));
    }
}

impl Gauge {
    /// As counted, or at most.
    pub fn tokens(&self) -> u64 {
        match self {
            Self::Counted(tokens) | Self::Bounded(tokens, _) => *tokens,
        }
    }

    /// As counted, if it was.
    pub fn counted(&self) -> Option<u64> {
        match self {
            Self::Counted(tokens) => Some(*tokens),
            Self::Bounded(..) => None,
        }
    }

    /// Counts it, if that was not done. Answers what it would have been held by, had it been counted first; `None` if it
    /// was, or if more than its text was held.
    pub fn count(&mut self, encoding: Encoding, known: &mut Known) -> Option<u64> {
        let Self::Bounded(bound, kept) = self else { return None };
        let open = kept.call.open.is_some();
        let input = kept.call.input_up_to(encoding, known, u64::MAX);
        let Input { counted, bound } = input.unwrap_or(Input { counted: *bound, bound: *bound });
        *self = Self::Counted(counted);
        (!open).then_some(bound.max(counted))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{ROOM, Shelf, WORTH};
    use crate::engine::effect::Handle;
    use crate::meter::call::read_call;
    use crate::meter::count::Encoding;
    use crate::meter::count::known::Known;
    use crate::meter::dialect::Dialect;
    use crate::policy;
    use crate::policy::bundle::Bundle;
    use crate::quota::MICRO;
    use crate::sim::call::{Call, Ending};
    use crate::sim::world::{At, World};
    use crate::upstream::ask::Api;
    use crate::upstream::script::{Report, Script};

    /// Its one key is `key-ann`.
    fn text(limit: &str, plan: &str) -> String {
        format!(
            "farebox: 1
bundle: {{name: gauge, version: '1'}}
identity: [{{key: [authorization]}}]
models: {{'*': {{count: o200k_base}}}}
plans: {{p: {{tokens: {{hold: {{shrink_to: 16, {plan}}},
    caps: {{day: {{limit: {limit} tokens, per: seat, window: calendar day}}}}}}}}}}
assign: [{{otherwise: p}}]
seats: {{ann: {{org: o, keys: ['sha256:a82937400c2cc11407f5bb2f9af56eded40d3002f15bdf996f5b70917bf8edb1']}}}}
"
        )
    }

    fn bundle(limit: &str, plan: &str) -> Bundle {
        policy::compile(&text(limit, plan), "p").unwrap()
    }

    /// 6,000 tokens, 36 kB.
    fn body(model: &str) -> serde_json::Value {
        let text = "length".repeat(6_000);
        json!({"model": model, "max_tokens": 16, "messages": [{"role": "user", "content": text}]})
    }

    const AT: At = At { process: 0, vm: 0 };

    fn world(limit: &str, plan: &str) -> World {
        World::new(bundle(limit, plan), 1, 1, 1_000_000, 1).unwrap()
    }

    fn silent() -> Script {
        Script { report: Report::Silent, ..Script::default() }
    }

    /// What the day's tokens held and were charged.
    fn tokens(world: &World) -> (u64, u64) {
        let quota = &world.bundle().plans[0].quotas[0].quota;
        let accounts = world.accounts(0).unwrap();
        let standing = accounts.first().and_then(|account| account.standing(quota, world.now()));
        standing.map_or((0, 0), |standing| (standing.held / MICRO, standing.used / MICRO))
    }

    /// How inputs that were only bounded were told in the end.
    fn bounded(world: &World) -> Vec<(String, u64)> {
        let counters = world.counters().into_iter();
        let told = counters.filter_map(|(name, by)| Some((name.strip_prefix("bounded_total{then=")?.to_owned(), by)));
        told.collect()
    }

    fn begins(world: &World, model: &str, script: Script, ending: Ending) -> Handle {
        let mut call = Call::new(Api::OpenAiChat, "key-ann", &body(model));
        (call.plot.script, call.plot.ending) = (script, ending);
        world.open(AT, call).unwrap()
    }

    /// The most that one call holds, and what it is charged.
    fn call(world: &World, model: &str, script: Script, ending: Ending) -> (u64, u64) {
        let (stream, (_, had)) = (begins(world, model, script, ending), tokens(world));
        let mut most = 0;
        while world.ready().contains(&(AT, stream)) {
            world.step(AT, stream);
            most = most.max(tokens(world).0);
        }
        assert!(world.run(10_000));
        let (held, used) = tokens(world);
        assert_eq!(held, 0);
        (most, used - had)
    }

    /// As counted: the text, its message and the answer's beginning; 16 of output.
    const COUNTED: u64 = 6_000 + 4 + 3 + 16;

    #[test]
    fn a_long_prompt_is_not_counted_where_there_is_ample_room_and_its_provider_says_what_it_was() {
        let world = world("10m", "");
        let (held, used) = call(&world, "gpt-4o", Script { input: Some(6_123), ..Script::default() }, Ending::Finished);
        assert!(held > 36_000, "{held}");
        assert_eq!((used, bounded(&world)), (6_123 + 16, vec![("reported}".to_owned(), 1)]));
    }

    #[test]
    fn it_is_counted_in_the_end_where_nobody_says_it() {
        let world = world("10m", "");
        assert_eq!(call(&world, "gpt-4o", silent(), Ending::Finished).1, COUNTED);
        assert_eq!(bounded(&world), [("counted}".to_owned(), 1)]);
        // It is known by now, and costs nothing.
        assert!(call(&world, "gpt-4o", silent(), Ending::ClientAbort(0)).0 < 7_000);
    }

    #[test]
    fn who_hangs_up_pays_what_was_counted_and_what_was_never_sent_is_not_counted() {
        let hung_up = world("10m", "");
        assert_eq!(call(&hung_up, "gpt-4o", Script::default(), Ending::ClientLeaves).1, COUNTED - 16);
        let unsent = world("10m", "");
        assert_eq!(call(&unsent, "gpt-4o", Script::default(), Ending::ConnectFailure).1, 0);
        assert_eq!((bounded(&hung_up).len(), bounded(&unsent).len()), (1, 0));
    }

    #[test]
    fn it_is_counted_first_where_that_matters_or_the_policy_asks() {
        for (limit, plan) in [("100000", ""), ("10m", "count: always"), ("10m", "lost: delivered")] {
            let world = world(limit, plan);
            let (held, used) = call(&world, "gpt-4o", Script::default(), Ending::Finished);
            assert!((COUNTED..COUNTED + 30).contains(&held), "{held}");
            assert_eq!((used, bounded(&world)), (COUNTED, vec![]), "{limit} {plan}");
        }
        // To the token: nothing but a count shows that it fits.
        assert_eq!(call(&world("6050", ""), "gpt-4o", Script::default(), Ending::Finished).1, COUNTED);
    }

    #[test]
    fn many_at_once_are_counted_before_they_take_others_their_room() {
        many_at_once("calendar day");
    }

    /// A bucket knows no holds.
    #[test]
    fn nor_do_they_fill_a_bucket() {
        many_at_once("bucket 7d");
    }

    fn many_at_once(window: &str) {
        let bundle = policy::compile(&text("4m", "").replace("calendar day", window), "p").unwrap();
        let world = World::new(bundle, 1, 1, 1_000_000, 1).unwrap();
        for _ in 0..100 {
            let stream = begins(&world, "gpt-4o", Script::default(), Ending::Finished);
            let before = tokens(&world);
            while tokens(&world) == before {
                assert!(world.ready().contains(&(AT, stream)));
                world.step(AT, stream);
            }
        }
        // An eighth of what is left is half a million, 12 or 13 bounds; the others are counted. Without that there would be
        // 28, for which there is a place to be kept.
        let (held, used) = tokens(&world);
        assert!((900_000..1_050_000).contains(&(held + used)), "{held} {used}");
    }

    /// Whose vocabulary is not public is counted until it is known how it counts.
    #[test]
    fn it_is_counted_while_there_is_something_to_learn() {
        let world = world("100m", "");
        for round in 0..12 {
            let text = format!("{round}{}", "length".repeat(6_000));
            let body = json!({"model": "qwen-max", "max_tokens": 16, "messages": [{"role": "user", "content": text}]});
            world.open(AT, Call::new(Api::OpenAiChat, "key-ann", &body)).unwrap();
            assert!(world.run(10_000));
        }
        assert_eq!(bounded(&world), [("counted}".to_owned(), 10), ("reported}".to_owned(), 2)]);
    }

    #[test]
    fn texts_are_kept_in_a_room_of_fixed_size() {
        let bundle = bundle("10m", "");
        let (shelf, mut known) = (Shelf::default(), Known::new([1, 2]));
        let mut bound = |length: usize| {
            let body = json!({"model": "m", "messages": [{"role": "user", "content": "a".repeat(length)}]}).to_string();
            let call = read_call(Dialect::OpenAiChat, body.as_bytes()).unwrap();
            let bound = shelf.bound(&bundle.plans[0], &call, Encoding::O200kBase, &mut known);
            (bound.is_some(), shelf.keep(call, 1))
        };
        assert!(!bound(WORTH - 100).0);
        let first = bound(WORTH);
        assert!(first.0);
        let (fits, large) = bound(ROOM - 2 * WORTH);
        assert!(fits);
        assert!(!bound(WORTH).0);
        drop(large);
        assert!(bound(WORTH).0);
        drop(first);
        assert_eq!(shelf.0.get(), 0);
    }
}
