//! What stands in the place of what was found.

use std::collections::BTreeMap;
use std::fmt::Write;

use sha2::{Digest, Sha256};

use super::Action;
use super::namer::Namer;
use super::scanner::Rule;

/// The most different texts that get a name in one exchange; what comes beyond is redacted.
const MOST_NAMES: usize = 1_000;

/// The most numbers that are tried for one name.
const MOST_TRIED: usize = 64;

/// No name has a higher number.
pub(crate) const HIGHEST_NUMBER: usize = MOST_NAMES + MOST_TRIED;

const REDACTED: &str = "[redacted]";

/// Makes replacements for one exchange, and remembers the names that it gave.
#[derive(Clone, Debug)]
pub struct Mask {
    key: [u8; 32],
    names: Vec<(String, String)>,
    /// The same, by what they stand for.
    known: BTreeMap<String, String>,
    /// The beginnings of names of which no more are free.
    used_up: Vec<String>,
}

impl Mask {
    /// `key`: what hashes are made with. Who knows it can try out numbers of phones until one has the hash.
    pub fn new(key: [u8; 32]) -> Self {
        Self { key, names: Vec::new(), known: BTreeMap::new(), used_up: Vec::new() }
    }

    /// What stands in the place of `text`. `None`: itself.
    ///
    /// `taken` tells whether a name stands in the text already, so that it can mean nothing else.
    pub fn replace(&mut self, rule: &Rule, text: &str, taken: impl Fn(&str) -> bool) -> Option<String> {
        match rule.action {
            Action::Observe => None,
            Action::Redact | Action::Deny => Some(REDACTED.to_owned()),
            Action::Tag => Some(format!("[{}]", rule.name)),
            Action::Hash => Some(format!("[{}:{}]", rule.name, self.hash(rule, text))),
            Action::Pseudonym => Some(self.name(rule, text, taken)),
        }
    }

    /// What stands in the place of `text` where there is no room for more than there was: as much of what the rule says as
    /// fits, and nothing that could be told back.
    pub fn brief(rule: &Rule, text: &str) -> Option<String> {
        let room = text.chars().count();
        let tag = format!("[{}]", rule.name);
        match rule.action {
            Action::Observe => None,
            Action::Tag | Action::Hash | Action::Pseudonym if tag.chars().count() <= room => Some(tag),
            _ if REDACTED.len() <= room => Some(REDACTED.to_owned()),
            _ => Some("*".repeat(room.min(3))),
        }
    }

    /// Twelve hex digits of SHA-256 over the key, the rule and the text.
    fn hash(&self, rule: &Rule, text: &str) -> String {
        let digest = Sha256::new().chain_update(self.key).chain_update(&rule.name).chain_update([0]).chain_update(text);
        let mut hash = String::new();
        for byte in digest.finalize().iter().take(6) {
            // Writing to a string does not fail.
            let _ = write!(hash, "{byte:02x}");
        }
        hash
    }

    /// The name of a text: the same for the same text, in the order in which they come, so that a conversation that is
    /// sent again has the same names.
    fn name(&mut self, rule: &Rule, text: &str, taken: impl Fn(&str) -> bool) -> String {
        if let Some(name) = self.known.get(text) {
            return name.clone();
        }
        let stem = stem(rule);
        if self.names.len() >= MOST_NAMES || self.used_up.contains(&stem) {
            return REDACTED.to_owned();
        }
        let first = self.names.len().saturating_add(1);
        let free = (first..first.saturating_add(MOST_TRIED)).map(|number| format!("[{stem}_{number}]"));
        let known = |name: &String| taken(name) || self.names.iter().any(|(other, _)| other == name);
        match { free }.find(|name| !known(name)) {
            Some(name) => {
                self.names.push((name.clone(), text.to_owned()));
                self.known.insert(text.to_owned(), name.clone());
                name
            }
            None => {
                self.used_up.push(stem);
                REDACTED.to_owned()
            }
        }
    }

    /// Puts back what the names stand for. `None`: no name was given.
    pub fn restorer(&self) -> Option<Restorer> {
        (!self.names.is_empty()).then(|| Restorer { names: self.names.clone(), held: String::new() })
    }

    /// Puts the names again in the place of what was put back. `None`: no name was given.
    pub fn namer(&self) -> Option<Namer> {
        let forms = |(name, text): &(String, String)| {
            let mut escaped = String::new();
            escape(text, &mut escaped);
            [(text.clone(), name.clone()), (escaped, name.clone())]
        };
        (!self.names.is_empty()).then(|| Namer::of(self.names.iter().flat_map(forms).collect()))
    }
}

/// What the names begin with that a rule gives: `EMAIL`.
pub(crate) fn stem(rule: &Rule) -> String {
    rule.name.rsplit('.').next().unwrap_or_default().to_uppercase()
}

/// Puts back, in a text that comes in pieces, what names stand for. Holds back what may be the beginning of a name.
#[derive(Clone, Debug)]
pub struct Restorer {
    names: Vec<(String, String)>,
    held: String,
}

impl Restorer {
    /// Whether something is held back that may be the beginning of a name.
    pub fn holds(&self) -> bool {
        !self.held.is_empty()
    }

    /// The next piece. `json`: the text is JSON itself, so what comes back is escaped. Adds to `out`.
    pub fn push(&mut self, text: &str, json: bool, out: &mut String) {
        self.held.push_str(text);
        let held = std::mem::take(&mut self.held);
        let mut rest = held.as_str();
        while let Some((before, from)) = rest.find('[').and_then(|at| rest.split_at_checked(at)) {
            out.push_str(before);
            if let Some((name, text)) = self.names.iter().find(|(name, _)| from.starts_with(name.as_str())) {
                match json {
                    true => escape(text, out),
                    false => out.push_str(text),
                }
                rest = from.get(name.len()..).unwrap_or_default();
            } else if self.names.iter().any(|(name, _)| name.starts_with(from)) {
                from.clone_into(&mut self.held);
                return;
            } else {
                out.push('[');
                rest = from.get(1..).unwrap_or_default();
            }
        }
        out.push_str(rest);
    }

    /// What is still held back.
    pub fn finish(&mut self, out: &mut String) {
        out.push_str(&std::mem::take(&mut self.held));
    }
}

/// Adds `text` as it stands inside a JSON string.
pub(super) fn escape(text: &str, out: &mut String) {
    let quoted = serde_json::to_string(text).unwrap_or_default();
    out.push_str(quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert_eq, proptest};

    use super::{Action, Mask, Rule};

    fn rule(action: Action) -> Rule {
        Rule { name: "email".into(), action }
    }

    #[test]
    fn each_action_has_its_replacement() {
        let mut mask = Mask::new([7; 32]);
        let mut replace = |action, text: &str| mask.replace(&rule(action), text, |_| false);
        assert_eq!(replace(Action::Observe, "a@b.cn"), None);
        assert_eq!(replace(Action::Redact, "a@b.cn").as_deref(), Some("[redacted]"));
        assert_eq!(replace(Action::Tag, "a@b.cn").as_deref(), Some("[email]"));
        let hash = replace(Action::Hash, "a@b.cn").unwrap();
        assert_eq!(hash.len(), "[email:]".len() + 12);
        assert_eq!(replace(Action::Hash, "a@b.cn"), Some(hash.clone()));
        assert_ne!(replace(Action::Hash, "b@b.cn"), Some(hash.clone()));
        assert_ne!(Mask::new([8; 32]).replace(&rule(Action::Hash), "a@b.cn", |_| false), Some(hash));
    }

    #[test]
    fn names_are_the_same_for_the_same_text_and_never_one_that_is_taken() {
        let mut mask = Mask::new([7; 32]);
        let mut name = |text: &str| mask.replace(&rule(Action::Pseudonym), text, |name| name == "[EMAIL_2]").unwrap();
        assert_eq!((name("a"), name("b"), name("a")), ("[EMAIL_1]".into(), "[EMAIL_3]".into(), "[EMAIL_1]".into()));
    }

    #[test]
    fn names_are_bounded() {
        let mut mask = Mask::new([7; 32]);
        let names = (0..1_100).map(|n| mask.replace(&rule(Action::Pseudonym), &n.to_string(), |_| false).unwrap());
        assert_eq!(names.filter(|name| name == "[redacted]").count(), 100);
    }

    #[test]
    fn nobody_looks_for_a_name_when_none_is_left() {
        let looked = std::cell::Cell::new(0);
        let taken = |name: &str| {
            looked.set(looked.get() + 1);
            name.len() > "[EMAIL_9]".len()
        };
        let mut mask = Mask::new([7; 32]);
        for text in 0..50_000 {
            mask.replace(&rule(Action::Pseudonym), &text.to_string(), taken);
        }
        assert!(looked.get() < 100, "{}", looked.get());
        let (mut mask, looked) = (Mask::new([7; 32]), std::cell::Cell::new(0));
        for text in 0..50_000 {
            mask.replace(&rule(Action::Pseudonym), &text.to_string(), |_| {
                looked.set(looked.get() + 1);
                false
            });
        }
        assert_eq!(looked.get(), super::MOST_NAMES);
    }

    proptest! {
        #[test]
        fn any_chunking_puts_back_the_same(cuts in proptest::collection::vec(1usize..6, 0..40)) {
            let mut mask = Mask::new([7; 32]);
            for text in ["a@b.cn", "say \"hi\""] {
                mask.replace(&rule(Action::Pseudonym), text, |_| false);
            }
            let text = "To [EMAIL_1], [[EMAIL_2]] and [EMAIL_3] [EMAIL_";
            for (json, second) in [(false, "say \"hi\""), (true, "say \\\"hi\\\"")] {
                let (mut restorer, mut out, mut rest) = (mask.restorer().unwrap(), String::new(), text);
                for cut in &cuts {
                    let (piece, after) = rest.split_at((*cut).min(rest.len()));
                    restorer.push(piece, json, &mut out);
                    rest = after;
                }
                restorer.push(rest, json, &mut out);
                restorer.finish(&mut out);
                prop_assert_eq!(out, format!("To a@b.cn, [{second}] and [EMAIL_3] [EMAIL_"));
            }
        }
    }
}
