//! Agents that are stuck: the same call again and again, and the same tool called with the same arguments.
//!
//! How many calls and tokens a session may have is a quota (`per: session`). Here is what no sum shows. An agent that has
//! lost its way is honest and wasteful, so what is compared is bytes: whoever changes one on purpose is not meant.
//!
//! How often a call came is counted in each VM by itself, so that with `n` workers `n` times as many may pass; a plan that
//! counts to ten does not mean the eleventh. Loops are told by the conversation itself, wherever it goes.

use std::hash::Hasher as _;

use siphasher::sip128::{Hasher128 as _, SipHasher13};

use super::denial::{Denial, Kind, Span, quoted};
use super::effect::Effect;
use super::guard::{Found, Trace};
use crate::meter::call::Call;
use crate::now::Now;
use crate::policy::bundle::{Guard, Loops, Plan, Repeats};

/// Rows of the table. All of it is 128 KiB, of fixed size, taken when the first call is counted.
const ROWS: usize = 1 << 10;
/// Calls in a row, the one that came last in front; a new one drives out the last.
const WIDTH: usize = 4;

/// The calls that came lately, up to 4,096; one for a VM. Of each its hash is kept, under a key that only this VM knows, so
/// that nobody can make a call that passes for another one.
#[derive(Debug)]
pub(super) struct Lately {
    key: [u64; 2],
    rows: Vec<[Entry; WIDTH]>,
}

/// A call. One that came never has a count of 0.
#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    hash: [u64; 2],
    since_ms: u64,
    times: u64,
}

impl Lately {
    /// Nothing has come yet. `secret` is drawn anew for each VM and told to nobody.
    pub fn new(secret: [u64; 2]) -> Self {
        Self { key: secret, rows: Vec::new() }
    }

    /// How often this call has come, this time included, and in how many milliseconds it is counted anew.
    fn again(&mut self, hash: [u64; 2], within_ms: u64, now_ms: u64) -> (u64, u64) {
        if self.rows.is_empty() {
            self.rows.resize(ROWS, [Entry::default(); WIDTH]);
        }
        let once = (1, within_ms);
        let [low, _] = hash;
        let Some(row) = self.rows.get_mut(low as usize % ROWS) else { return once };
        let found = row.iter().position(|entry| entry.hash == hash && entry.times > 0);
        let mut entry = found.and_then(|at| row.get(at)).copied().unwrap_or_default();
        let passed_ms = now_ms.saturating_sub(entry.since_ms);
        if entry.times == 0 || passed_ms >= within_ms {
            entry = Entry { hash, since_ms: now_ms, times: 0 };
        }
        entry.times = entry.times.saturating_add(1);
        if let Some(kept) = row.get_mut(..found.map_or(WIDTH, |at| at.saturating_add(1))) {
            kept.rotate_right(1);
        }
        if let Some(first) = row.first_mut() {
            *first = entry;
        }
        (entry.times, within_ms.saturating_sub(now_ms.saturating_sub(entry.since_ms)))
    }

    /// Each piece with its length, so that none can be moved into its neighbour.
    fn hash<'a>(&self, pieces: impl IntoIterator<Item = &'a [u8]>) -> [u64; 2] {
        let [first, second] = self.key;
        let mut hasher = SipHasher13::new_with_keys(first, second);
        for piece in pieces {
            hasher.write_usize(piece.len());
            hasher.write(piece);
        }
        let hash = hasher.finish128();
        [hash.h1, hash.h2]
    }
}

/// Who calls.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caller<'a> {
    /// The seat.
    pub seat: &'a str,
    /// The session as it names itself; empty where it does not.
    pub session: &'a [u8],
}

/// Asks both guards. A refusal, or for how many milliseconds the call is slowed down; 0: not at all.
pub(super) fn judge(
    plan: &Plan,
    caller: Caller<'_>,
    call: &Call,
    now: Now,
    lately: &mut Lately,
    trace: &mut Trace,
    effects: &mut Vec<Effect>,
) -> Result<u64, Denial> {
    let mut take = |guard: Guard, slow_ms: Option<u64>, found: Result<(), Box<Found>>| match (found, slow_ms) {
        (Err(_), Some(ms)) if !plan.observes(guard) => {
            trace.slow(guard, effects);
            Ok(ms)
        }
        (found, _) => trace.take(plan, guard, found, effects).map(|()| 0),
    };
    let mut slow_ms = 0;
    // What repeats itself is not read for its loops, too.
    if let Some(rule) = &plan.security.repeats {
        slow_ms = take(Guard::Repeats, rule.slow_ms, repeated(rule, plan, caller, call, now, lately))?;
    }
    if let Some(rule) = &plan.security.loops {
        slow_ms = take(Guard::Loops, rule.slow_ms, looped(rule, plan, call, lately))?.max(slow_ms);
    }
    Ok(slow_ms)
}

/// The same call of the same caller has not come more often than the plan lets it.
fn repeated(
    rule: &Repeats,
    plan: &Plan,
    caller: Caller<'_>,
    call: &Call,
    now: Now,
    lately: &mut Lately,
) -> Result<(), Box<Found>> {
    let named = [caller.seat.as_bytes(), caller.session, call.dialect.name().as_bytes(), call.model.as_bytes()];
    let hash = lately.hash(named.into_iter().chain([call.body()]));
    let (times, anew_ms) = lately.again(hash, rule.within_ms, now.mono_ms);
    if times <= rule.most {
        return Ok(());
    }
    let within = Span(rule.within_ms);
    let outside = format!("the same call came {times} times within {within}; change it, or wait");
    let inside = format!("`repeats` of plan `{}` lets {} of the same pass within {within}", plan.name, rule.most);
    Err(Found::until(Kind::Rate, anew_ms, outside, inside))
}

/// The conversation does not tell of the same tool called with the same arguments more often than the plan lets it.
fn looped(rule: &Loops, plan: &Plan, call: &Call, lately: &Lately) -> Result<(), Box<Found>> {
    let mut many = 0;
    call.told_calls(&mut |_| many = usize::saturating_add(many, 1));
    let mut seen = Seen::room_for(many);
    let mut worst = (0, String::new());
    call.told_calls(&mut |told| {
        let times = seen.again(lately.hash([told.name.as_bytes(), told.arguments.as_bytes()]));
        if times > worst.0 && times > rule.most {
            worst = (times, quoted(&told.tool()));
        }
    });
    let (times, name) = worst;
    if times == 0 {
        return Ok(());
    }
    let outside = format!("the tool {name} was called {times} times with the same arguments; go on in another way");
    let inside = format!("{name} was called {times} times alike, `loops` of plan `{}` lets {}", plan.name, rule.most);
    Err(Found::new(Kind::Forbidden, outside, inside))
}

/// How often each hash was seen: a table that is half empty. (A map of the standard library would be ten times the code.)
struct Seen(Vec<([u64; 2], u64)>);

impl Seen {
    fn room_for(many: usize) -> Self {
        Self(vec![Default::default(); many.saturating_mul(2).max(1)])
    }

    /// This one once more.
    fn again(&mut self, hash: [u64; 2]) -> u64 {
        let [low, _] = hash;
        let from = low as usize % self.0.len().max(1);
        let (before, behind) = self.0.split_at_mut_checked(from).unwrap_or_default();
        let mut rows = behind.iter_mut().chain(before);
        let Some((known, times)) = rows.find(|(known, times)| *times == 0 || *known == hash) else { return 1 };
        (*known, *times) = (hash, times.saturating_add(1));
        *times
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::guard::tests::{bundle, chat, plan};
    use crate::policy::bundle::Bundle;

    struct Agent {
        bundle: Bundle,
        lately: Lately,
    }

    impl Agent {
        fn of(security: &str) -> Self {
            Self { bundle: bundle(&format!("security: {{{security}}}")), lately: Lately::new([1, 2]) }
        }

        /// What becomes of a call: the refusal, or by how much it is slowed down.
        fn ask(&mut self, session: &str, body: &str, mono_ms: u64) -> Result<u64, Denial> {
            let caller = Caller { seat: "ann", session: session.as_bytes() };
            let now = Now { wall_ms: 0, mono_ms };
            judge(
                plan(&self.bundle),
                caller,
                &chat(body),
                now,
                &mut self.lately,
                &mut Trace::default(),
                &mut Vec::new(),
            )
        }
    }

    fn asks(words: &str) -> String {
        format!(r#"{{"model": "m", "messages": [{{"role": "user", "content": "{words}"}}]}}"#)
    }

    fn told(calls: &[(&str, &str)]) -> String {
        let call = |(name, arguments): &(&str, &str)| {
            format!(
                r#"{{"role": "assistant", "tool_calls": [{{"id": "x", "function": {{"name": "{name}", "arguments": "{arguments}"}}}}]}}"#
            )
        };
        format!(r#"{{"model": "m", "messages": [{}]}}"#, calls.iter().map(call).collect::<Vec<_>>().join(","))
    }

    #[test]
    fn the_same_call_passes_so_often_and_then_when_it_is_counted_anew() {
        let mut agent = Agent::of("repeats: {most: 2, within: 1m}");
        assert_eq!((agent.ask("", &asks("a"), 0), agent.ask("", &asks("a"), 30_000)), (Ok(0), Ok(0)));
        let denial = agent.ask("", &asks("a"), 40_000).expect_err("a third");
        assert_eq!((denial.kind, denial.rule.as_str(), denial.retry_ms), (Kind::Rate, "repeats", Some(20_000)));
        assert_eq!(agent.ask("", &asks("b"), 40_000), Ok(0), "another one");
        assert_eq!(agent.ask("other", &asks("a"), 40_000), Ok(0), "another session");
        assert!(agent.ask("", &asks("a"), 59_999).is_err());
        assert_eq!(agent.ask("", &asks("a"), 60_000), Ok(0), "counted anew");
    }

    #[test]
    fn the_same_tool_with_the_same_arguments_passes_so_often() {
        let mut agent = Agent::of("loops: {most: 2}");
        let (look, other) = (("look", "{}"), ("look", "{1}"));
        assert_eq!(agent.ask("", &told(&[look, other, look, other]), 0), Ok(0));
        let denial = agent.ask("", &told(&[look, other, look, ("see", "{}"), look, look]), 0).expect_err("four");
        assert_eq!((denial.kind, denial.rule.as_str()), (Kind::Forbidden, "loops"));
        assert!(denial.outside.starts_with("the tool `look` was called 4 times"), "{}", denial.outside);
    }

    #[test]
    fn what_slows_down_lets_pass_and_the_longest_wait_counts() {
        let mut agent = Agent::of("repeats: {most: 1, within: 1m, slow: 2s}, loops: {most: 1, slow: 5s}");
        let body = told(&[("look", "{}"), ("look", "{}")]);
        assert_eq!((agent.ask("", &asks("a"), 0), agent.ask("", &asks("a"), 0)), (Ok(0), Ok(2_000)));
        assert_eq!((agent.ask("", &body, 0), agent.ask("", &body, 0)), (Ok(5_000), Ok(5_000)));
    }

    #[test]
    fn what_observes_lets_pass_at_once() {
        let mut agent = Agent::of("repeats: {most: 1, within: 1m, slow: 2s}, observe: [repeats]");
        assert_eq!((agent.ask("", &asks("a"), 0), agent.ask("", &asks("a"), 0)), (Ok(0), Ok(0)));
    }

    #[test]
    fn memory_is_bounded_and_what_comes_again_and_again_stays() {
        let mut lately = Lately::new([1, 2]);
        let again = |lately: &mut Lately, number: usize| {
            let hash = lately.hash([number.to_string().as_bytes()]);
            lately.again(hash, 1_000, 0).0
        };
        for number in 1..ROWS * WIDTH * 3 {
            assert_eq!(again(&mut lately, 0), number as u64);
            again(&mut lately, number);
        }
        assert_eq!((lately.rows.len(), lately.rows.capacity()), (ROWS, ROWS));
        assert_eq!(again(&mut lately, 1), 1, "the oldest is forgotten");
    }
}
