//! What a session has sent before, and how much of that its provider read from a cache.
//!
//! An agent sends all of its conversation with each turn, and its provider reads nearly all of that from a cache, at a
//! tenth of the price. Who hangs up before the provider has reported leaves the cached share unknown, and the whole prompt
//! priced as fresh would be spend that never was. So of each session that the policy lets callers name, the VM remembers
//! the parts of the last prompt whose usage was reported, and what was cached of it by then. A prompt that contains all of
//! them is taken to be cached as far as that; the record says `mixed`.
//!
//! Session keys and texts are the caller's to choose, so a charge is lowered only where the provider's own cache would serve:
//! the same seat asks the same model in the same wire format, the definitions of tools are the same, and the prompt *begins*
//! with all that was sent then, part by part, no longer than five minutes ago. What another worker's VM has seen is not
//! known here: the prompt is then fresh, as before.

use std::collections::VecDeque;
use std::hash::Hasher as _;

use siphasher::sip::SipHasher13;

use crate::meter::call::Call;
use crate::meter::usage::Usage;

/// Sessions that a VM remembers; the one that was silent longest goes.
const MOST_SESSIONS: usize = 64;
/// Parts of a prompt that are remembered, eight bytes each; of a longer one nothing is.
const MOST_PARTS: usize = 2_048;

/// How long providers keep a prefix at least: OpenAI five to ten minutes without use ("Prompt caching"), Anthropic five.
const KEPT_MS: u64 = 300_000;

/// The prompt of a call in a named session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Prompt {
    /// Of the seat, the session, the model and the wire format.
    session: u64,
    /// Of the definitions, which stand before all messages, wherever a body writes them.
    definitions: u64,
    /// Of each other part, in their order.
    parts: Vec<u64>,
}

/// The last prompts of the sessions, a megabyte at most.
#[derive(Debug)]
pub(super) struct Prefixes {
    key: [u64; 2],
    /// The one that spoke last is at the end.
    sessions: VecDeque<Remembered>,
}

#[derive(Debug)]
struct Remembered {
    prompt: Prompt,
    /// Tokens that were in the cache then.
    cached: u64,
    /// When, by the monotonic clock.
    at_ms: u64,
}

impl Prefixes {
    /// Nothing is known yet. Hashes are made with a secret, so that nobody can make a text that passes for another one.
    pub fn new(secret: [u64; 2]) -> Self {
        Self { key: secret, sessions: VecDeque::new() }
    }

    /// The prompt of a `call` of this seat in the session that it names. `None`: it is too long to be remembered.
    pub fn prompt(&self, seat: &str, session: &[u8], call: &Call) -> Option<Prompt> {
        let named = [seat.as_bytes(), session, call.model.as_bytes(), call.dialect.name().as_bytes()];
        let session = self.hash(named.into_iter());
        let definitions = self.hash(call.raw_parts().filter(|(fixed, _)| *fixed).map(|(_, raw)| raw.as_bytes()));
        let messages = call.raw_parts().filter(|(fixed, _)| !*fixed);
        let hash = |(_, raw): (bool, &str)| self.hash(std::iter::once(raw.as_bytes()));
        let parts: Vec<u64> = messages.take(MOST_PARTS.saturating_add(1)).map(hash).collect();
        let fits = !parts.is_empty() && parts.len() <= MOST_PARTS;
        fits.then_some(Prompt { session, definitions, parts })
    }

    /// Each piece with its length, so that none can be moved into its neighbour.
    fn hash<'a>(&self, pieces: impl Iterator<Item = &'a [u8]>) -> u64 {
        let [first, second] = self.key;
        let mut hasher = SipHasher13::new_with_keys(first, second);
        for piece in pieces {
            hasher.write_usize(piece.len());
            hasher.write(piece);
        }
        hasher.finish()
    }

    /// How many tokens of a prompt its provider last read from a cache, or wrote to one, if it begins with all that was sent
    /// then.
    pub fn cached(&self, prompt: &Prompt, mono_ms: u64) -> u64 {
        let begins = |last: &Remembered| {
            let known = &last.prompt;
            known.session == prompt.session
                && known.definitions == prompt.definitions
                && prompt.parts.starts_with(&known.parts)
                && mono_ms.saturating_sub(last.at_ms) <= KEPT_MS
        };
        self.sessions.iter().find(|last| begins(last)).map_or(0, |last| last.cached)
    }

    /// A provider has reported the usage of a prompt.
    pub fn remember(&mut self, prompt: Prompt, usage: &Usage, mono_ms: u64) {
        self.sessions.retain(|last| last.prompt.session != prompt.session);
        if self.sessions.len() >= MOST_SESSIONS {
            self.sessions.pop_front();
        }
        let cached = usage.cache_read.saturating_add(usage.cache_write);
        self.sessions.push_back(Remembered { prompt, cached, at_ms: mono_ms });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meter::call::read_call;
    use crate::meter::dialect::Dialect;

    fn call(model: &str, messages: &[&str], tool: &str) -> Call {
        let messages: Vec<_> =
            messages.iter().map(|text| serde_json::json!({"role": "user", "content": text})).collect();
        let tools = serde_json::json!([{"type": "function", "function": {"name": tool}}]);
        let body = serde_json::json!({"model": model, "messages": messages, "tools": tools});
        read_call(Dialect::OpenAiChat, body.to_string().as_bytes()).unwrap()
    }

    fn cached() -> Usage {
        Usage { input: 10, cache_read: 80, cache_write: 10, ..Usage::default() }
    }

    fn prompt(prefixes: &Prefixes, seat: &str, session: &str, messages: &[&str]) -> Prompt {
        prefixes.prompt(seat, session.as_bytes(), &call("m", messages, "look")).unwrap()
    }

    #[test]
    fn a_prompt_that_begins_with_the_last_one_is_cached_as_far_as_that() {
        let mut prefixes = Prefixes::new([1, 2]);
        let first = prompt(&prefixes, "ann", "s", &["a", "b"]);
        assert_eq!(prefixes.cached(&first, 0), 0);
        prefixes.remember(first.clone(), &cached(), 0);
        assert_eq!(prefixes.cached(&first, KEPT_MS), 90);
        assert_eq!(prefixes.cached(&first, KEPT_MS + 1), 0, "caches do not last");
        let of = |seat, session, messages: &[&str]| prefixes.cached(&prompt(&prefixes, seat, session, messages), 1);
        assert_eq!(of("ann", "s", &["a", "b", "c"]), 90);
        assert_eq!(of("ann", "s", &["a", "c"]), 0, "another beginning");
        assert_eq!(of("ann", "s", &["new", "a", "b"]), 0, "something before it");
        assert_eq!(of("ann", "s", &["b", "a"]), 0, "another order");
        assert_eq!(of("ann", "t", &["a", "b"]), 0, "another session");
        assert_eq!(of("ben", "s", &["a", "b"]), 0, "another seat");
        let other = |model, tool| prefixes.prompt("ann", b"s", &call(model, &["a", "b"], tool)).unwrap();
        assert_eq!(prefixes.cached(&other("dear", "look"), 1), 0, "another model");
        assert_eq!(prefixes.cached(&other("m", "act"), 1), 0, "other tools");
        // What was said last counts.
        let longer = prompt(&prefixes, "ann", "s", &["a", "b", "c"]);
        prefixes.remember(longer, &Usage::default(), 2);
        assert_eq!(prefixes.cached(&prompt(&prefixes, "ann", "s", &["a", "b", "c", "d"]), 3), 0);
    }

    #[test]
    fn the_same_message_many_times_vouches_for_nothing_else() {
        let mut prefixes = Prefixes::new([1, 2]);
        let padded = prompt(&prefixes, "ann", "s", &["p", "p", "p"]);
        prefixes.remember(padded, &cached(), 0);
        assert_eq!(prefixes.cached(&prompt(&prefixes, "ann", "s", &["p", "fresh"]), 1), 0);
    }

    #[test]
    fn memory_is_bounded() {
        let mut prefixes = Prefixes::new([1, 2]);
        for session in 0..=MOST_SESSIONS {
            let prompt = prompt(&prefixes, "ann", &session.to_string(), &["a"]);
            prefixes.remember(prompt, &cached(), 0);
        }
        let of = |session: usize| prefixes.cached(&prompt(&prefixes, "ann", &session.to_string(), &["a"]), 0);
        assert_eq!((prefixes.sessions.len(), of(0), of(1)), (MOST_SESSIONS, 0, 90));
        let long = vec!["a"; MOST_PARTS + 1];
        assert_eq!(prefixes.prompt("ann", b"s", &call("m", &long, "look")), None);
    }
}
