//! What a session has sent before, and how much of that its provider read from a cache.
//!
//! An agent sends all of its conversation with each turn, and its provider reads nearly all of that from a cache, at a
//! tenth of the price. Who hangs up before the provider has reported leaves the cached share unknown, and the whole prompt
//! priced as fresh would be spend that never was. So of each session that the policy lets callers name, the VM remembers
//! the parts of the last prompt whose usage was reported, and what was cached of it by then. A prompt that contains all of
//! them is taken to be cached as far as that; the record says `mixed`.
//!
//! A session key is the caller's to choose, so it may lower a charge only by what a provider has said of the very same
//! texts, and of the same seat. What another worker's VM has seen is not known here: the prompt is then fresh, as before.

use std::collections::VecDeque;
use std::hash::Hasher as _;

use siphasher::sip::SipHasher13;

use crate::meter::call::Call;
use crate::meter::usage::Usage;

/// Sessions that a VM remembers; the one that was silent longest goes.
const MOST_SESSIONS: usize = 64;
/// Parts of a prompt that are remembered, eight bytes each; of a longer one nothing is.
const MOST_PARTS: usize = 2_048;

/// The prompt of a call in a named session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Prompt {
    session: u64,
    /// Hashes of its parts, sorted.
    parts: Vec<u64>,
}

/// The last prompts of the sessions, half a megabyte at most.
#[derive(Debug)]
pub(super) struct Prefixes {
    key: [u64; 2],
    /// The one that spoke last is at the end.
    sessions: VecDeque<(Prompt, u64)>,
}

impl Prefixes {
    /// Nothing is known yet. Hashes are made with a secret, so that nobody can make a text that passes for another one.
    pub fn new(secret: [u64; 2]) -> Self {
        Self { key: secret, sessions: VecDeque::new() }
    }

    /// The prompt of a `call` of this seat in the session that it names. `None`: it is too long to be remembered.
    pub fn prompt(&self, seat: usize, session: &[u8], call: &Call) -> Option<Prompt> {
        let mut of_seat = self.hasher();
        of_seat.write_usize(seat);
        of_seat.write(session);
        let hash = |part: &str| {
            let mut hasher = self.hasher();
            hasher.write(part.as_bytes());
            hasher.finish()
        };
        let mut parts: Vec<u64> = call.raw_parts().take(MOST_PARTS.saturating_add(1)).map(hash).collect();
        if parts.len() > MOST_PARTS {
            return None;
        }
        parts.sort_unstable();
        Some(Prompt { session: of_seat.finish(), parts })
    }

    fn hasher(&self) -> SipHasher13 {
        let [first, second] = self.key;
        SipHasher13::new_with_keys(first, second)
    }

    /// How many tokens of a prompt its provider last read from a cache, or wrote to one, if it holds all that was sent then.
    pub fn cached(&self, prompt: &Prompt) -> u64 {
        let last = self.sessions.iter().find(|(known, _)| known.session == prompt.session);
        let holds = |known: &Prompt| known.parts.iter().all(|part| prompt.parts.binary_search(part).is_ok());
        last.filter(|(known, _)| holds(known)).map_or(0, |(_, cached)| *cached)
    }

    /// A provider has reported the usage of a prompt.
    pub fn remember(&mut self, prompt: Prompt, usage: &Usage) {
        self.sessions.retain(|(known, _)| known.session != prompt.session);
        if self.sessions.len() >= MOST_SESSIONS {
            self.sessions.pop_front();
        }
        self.sessions.push_back((prompt, usage.cache_read.saturating_add(usage.cache_write)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meter::call::read_call;
    use crate::meter::dialect::Dialect;

    fn call(messages: &[&str]) -> Call {
        let messages: Vec<_> =
            messages.iter().map(|text| serde_json::json!({"role": "user", "content": text})).collect();
        let body = serde_json::json!({"model": "m", "messages": messages});
        read_call(Dialect::OpenAiChat, body.to_string().as_bytes()).unwrap()
    }

    fn cached() -> Usage {
        Usage { input: 10, cache_read: 80, cache_write: 10, ..Usage::default() }
    }

    #[test]
    fn a_prompt_that_holds_the_last_one_is_cached_as_far_as_that() {
        let mut prefixes = Prefixes::new([1, 2]);
        let prompt = |prefixes: &Prefixes, seat, session: &str, messages: &[&str]| {
            prefixes.prompt(seat, session.as_bytes(), &call(messages)).unwrap()
        };
        let first = prompt(&prefixes, 0, "s", &["a", "b"]);
        assert_eq!(prefixes.cached(&first), 0);
        prefixes.remember(first.clone(), &cached());
        assert_eq!(prefixes.cached(&first), 90);
        assert_eq!(prefixes.cached(&prompt(&prefixes, 0, "s", &["a", "b", "c"])), 90);
        assert_eq!(prefixes.cached(&prompt(&prefixes, 0, "s", &["a", "c"])), 0, "another beginning");
        assert_eq!(prefixes.cached(&prompt(&prefixes, 0, "t", &["a", "b"])), 0, "another session");
        assert_eq!(prefixes.cached(&prompt(&prefixes, 1, "s", &["a", "b"])), 0, "another seat");
        // What was said last counts.
        prefixes.remember(prompt(&prefixes, 0, "s", &["a", "b", "c"]), &Usage::default());
        assert_eq!(prefixes.cached(&prompt(&prefixes, 0, "s", &["a", "b", "c", "d"])), 0);
    }

    #[test]
    fn memory_is_bounded() {
        let mut prefixes = Prefixes::new([1, 2]);
        for session in 0..=MOST_SESSIONS {
            let prompt = prefixes.prompt(0, &session.to_le_bytes(), &call(&["a"])).unwrap();
            prefixes.remember(prompt, &cached());
        }
        let of = |session: usize| prefixes.cached(&prefixes.prompt(0, &session.to_le_bytes(), &call(&["a"])).unwrap());
        assert_eq!((prefixes.sessions.len(), of(0), of(1)), (MOST_SESSIONS, 0, 90));
        let long = vec!["a"; MOST_PARTS + 1];
        assert_eq!(prefixes.prompt(0, b"s", &call(&long)), None);
    }
}
