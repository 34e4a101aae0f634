//! The names of the members of a JSON text, told apart when some of them have to change.

use std::collections::BTreeMap;

use super::json;

/// The most names of members that are changed in one body.
const MOST_CHANGED: usize = 1_000;

/// The most numbers that are tried to tell a member from others.
const MOST_TRIED: usize = 64;

/// The names of a body's members, of which an object has each once.
#[derive(Debug)]
pub struct Members {
    /// A bit for every hash of a name: 128 KiB, whatever the body. Two names with one hash cost a number that is passed
    /// over.
    names: Vec<bool>,
    /// Names that were changed, and what they are now.
    changed: BTreeMap<String, String>,
}

/// How many hashes there are.
const HASHES: usize = 1 << 17;

impl Members {
    /// Those of a JSON text, at whatever depth.
    pub fn of(body: &[u8]) -> Self {
        let mut members = Self { names: vec![false; HASHES], changed: BTreeMap::new() };
        let mut strings = json::Strings::of(std::str::from_utf8(body).unwrap_or_default());
        while let Some(raw) = strings.next() {
            if strings.rest().trim_ascii_start().starts_with(':') {
                members.note(&json::text(raw).unwrap_or_default());
            }
        }
        members
    }

    /// A name for one that has to change into `wanted`, which no other has; the same for the same name. `None`: there are
    /// too many.
    pub fn rename(&mut self, name: &str, wanted: &str) -> Option<String> {
        if let Some(known) = self.changed.get(name) {
            return Some(known.clone());
        }
        let first = self.changed.len().saturating_add(1);
        if first > MOST_CHANGED {
            return None;
        }
        let numbered = (first..first.saturating_add(MOST_TRIED)).map(|number| format!("{wanted}_{number}"));
        let free = std::iter::once(wanted.to_owned()).chain(numbered).find(|name| !self.has(name))?;
        self.note(&free);
        self.changed.insert(name.to_owned(), free.clone());
        Some(free)
    }

    fn has(&self, name: &str) -> bool {
        self.names.get(hash(name)) == Some(&true)
    }

    fn note(&mut self, name: &str) {
        if let Some(noted) = self.names.get_mut(hash(name)) {
            *noted = true;
        }
    }
}

/// FNV-1a, folded. Who makes names with one hash has his own request refused.
fn hash(name: &str) -> usize {
    let step = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325, step);
    usize::try_from((hash ^ (hash >> 32)) & 0x1_ffff).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::Members;

    #[test]
    fn members_stay_apart() {
        let mut members = Members::of(br#"{"[email]": 1, "a": {"[e\u006dail]_1" : "[email]_2"}}"#);
        assert_eq!(members.rename("a@b.cn", "[email]").as_deref(), Some("[email]_2"));
        assert_eq!(members.rename("c@b.cn", "[email]").as_deref(), Some("[email]_3"));
        assert_eq!(members.rename("a@b.cn", "[email]").as_deref(), Some("[email]_2"));
        assert_eq!(members.rename("x", "[phone]").as_deref(), Some("[phone]"));
        let names = (0..2_000).map_while(|name| members.rename(&name.to_string(), "[email]"));
        assert_eq!(names.count(), 997);
    }
}
