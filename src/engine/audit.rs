//! What the record of a call keeps beside its figures, where its plan says so: how it came, what was found in it, and
//! what was said, without what must not be kept.
//!
//! What is said is what leaves: the prompt behind its screen, and the texts of the answer as the caller gets them, but for
//! what was put back in the place of names: that has its name here too, for it may be known by what stood around it only
//! where it was found. All that has a name of its own, secrets and personal data, is taken out of what is kept whether or
//! not the plan looks for it, across the pieces of a stream too. Of each side the last [`LONGEST`] bytes are kept: an agent
//! sends all of its conversation again, and what is new stands at the end.

use std::borrow::Cow;
use std::net::IpAddr;

use super::event::Header;
use crate::meter::call::Call;
use crate::meter::rewrite::{Expected, Filter, Place, Rewriter};
use crate::policy::bundle::{Audit, Plan};
use crate::report::wire;
use crate::scan::{Finding, Mask, Namer, Redactor, Scanner};

/// What is kept of a prompt, and of an answer, in bytes.
pub const LONGEST: usize = 16 * 1024;

/// What is kept of a header or a path, in bytes.
const LONGEST_NAME: usize = 256;

/// The most texts of an answer that are listened to side by side.
const MOST_TEXTS: usize = 64;

const REDACTED: &str = "[redacted]";

/// What is kept of one call.
#[derive(Debug)]
pub(super) struct Trail {
    kept: wire::Audit,
    /// What the texts of the call must be rid of; `None`: no texts are kept.
    scanner: Option<Scanner>,
    listener: Option<Listener>,
}

impl Trail {
    /// How a call came. `None`: its plan keeps nothing.
    pub fn of(plan: &Plan, headers: &[Header], path: &[u8], address: Option<IpAddr>) -> Option<Self> {
        let (scanner, texts) = match &plan.security.audit {
            Audit::None => return None,
            Audit::Metadata(scanner) => (scanner, false),
            Audit::Bodies(scanner) => (scanner, true),
        };
        let agent = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(b"user-agent"));
        // Some callers send their key in the query.
        let path = path.split(|byte| *byte == b'?').next().unwrap_or_default();
        let kept = wire::Audit {
            address: address.as_ref().map(IpAddr::to_string).unwrap_or_default(),
            agent: short(scanner, agent.map(|(_, value)| value.as_slice()).unwrap_or_default()),
            path: short(scanner, path),
            ..wire::Audit::default()
        };
        Some(Self { kept, scanner: texts.then(|| scanner.clone()), listener: None })
    }

    /// It is admitted, as it leaves, after these findings.
    pub fn admitted(&mut self, call: &Call, findings: &[String]) {
        self.kept.findings = findings.to_vec();
        if let Some(scanner) = &self.scanner {
            (self.kept.prompt, self.kept.prompt_cut) = prompt(scanner, call);
        }
    }

    /// Its answer begins, in which what `mask` has names for is put back.
    pub fn expects(&mut self, expected: &Expected<'_>, mask: &Mask) {
        let rewriter = self.scanner.as_ref().and_then(|_| Rewriter::new(expected));
        let heard = self.scanner.clone().map(|scanner| Heard::new(scanner, mask.namer()));
        self.listener = rewriter.zip(heard).map(|(rewriter, heard)| Listener { rewriter, heard, ended: false });
    }

    /// Some of the answer leaves.
    pub fn hears(&mut self, chunk: &[u8], end: bool) {
        if let Some(listener) = &mut self.listener {
            listener.push(chunk, end);
        }
    }

    /// What the record says, with what was found in the answer.
    pub fn record(mut self, findings: Vec<String>) -> wire::Audit {
        self.kept.findings.extend(findings);
        if let Some(listener) = self.listener {
            (self.kept.answer, self.kept.answer_cut) = listener.said();
        }
        self.kept
    }
}

/// A stranger's bytes as text without what was found in it, no more of them than is worth keeping.
fn short(scanner: &Scanner, bytes: &[u8]) -> String {
    let text = without(scanner, &String::from_utf8_lossy(bytes));
    let end = (0..=LONGEST_NAME.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text.get(..end).unwrap_or_default().to_owned()
}

/// The last `most` bytes of a text, or a little less.
fn last(text: &str, most: usize) -> &str {
    let start = (text.len().saturating_sub(most)..=text.len()).find(|start| text.is_char_boundary(*start));
    text.get(start.unwrap_or(0)..).unwrap_or_default()
}

/// The last texts that a model reads of a call, a line each. What defines tools is none: it is the same in every call, and
/// tells a provider with which credentials to ask their servers. And whether there was more.
fn prompt(scanner: &Scanner, call: &Call) -> (String, bool) {
    let texts: Vec<_> = call.said().collect();
    let (mut kept, mut room, mut cut): (Vec<String>, usize, bool) = (Vec::new(), LONGEST, false);
    for text in texts.iter().rev() {
        if room == 0 {
            cut = true;
            break;
        }
        // All of it is looked at, so that nothing is found too late.
        let whole = without(scanner, text);
        let told = last(&whole, room);
        cut |= told.len() < whole.len();
        room = room.saturating_sub(told.len().saturating_add(1));
        kept.push(told.to_owned());
    }
    kept.reverse();
    (kept.join("\n"), cut)
}

/// A text without what was found in it.
fn without(scanner: &Scanner, text: &str) -> String {
    let (mut told, mut from) = (String::with_capacity(text.len()), 0);
    for Finding { range, .. } in scanner.find(text) {
        told.push_str(text.get(from..range.start).unwrap_or_default());
        told.push_str(REDACTED);
        from = range.end;
    }
    told.push_str(text.get(from..).unwrap_or_default());
    told
}

/// Reads an answer that leaves, and changes nothing of it.
#[derive(Debug)]
struct Listener {
    rewriter: Rewriter,
    heard: Heard,
    ended: bool,
}

impl Listener {
    fn push(&mut self, chunk: &[u8], end: bool) {
        if !self.ended {
            self.rewriter.push(chunk, end, &mut self.heard);
            self.ended = end;
        }
    }

    /// All that was said, and whether there was more. An answer that broke off may end in the middle of something: what the
    /// redactors hold is not kept.
    fn said(self) -> (String, bool) {
        let Heard { said, open, cut, .. } = &self.heard;
        let kept = last(said, LONGEST);
        let holds = open.iter().any(Open::holds);
        (kept.to_owned(), *cut || holds || kept.len() < said.len() || self.rewriter.failed().is_some())
    }
}

/// The texts of an answer, rid of what must not be kept.
#[derive(Debug)]
struct Heard {
    scanner: Scanner,
    namer: Option<Namer>,
    open: Vec<Open>,
    /// Whose text the last one was.
    speaker: Option<Place>,
    said: String,
    /// Some of it is not in there any more, or never was.
    cut: bool,
}

/// A text that has begun.
#[derive(Debug)]
struct Open {
    place: Place,
    namer: Option<Namer>,
    redactor: Redactor,
}

impl Open {
    /// Whether something came that is not kept yet.
    fn holds(&self) -> bool {
        self.redactor.held() > 0 || self.namer.as_ref().is_some_and(Namer::holds)
    }

    /// The next piece; adds to `safe` what may be kept. `over`: it is the last.
    fn push(&mut self, text: &str, over: bool, safe: &mut String) {
        let mut named = Cow::Borrowed(text);
        if let Some(namer) = &mut self.namer {
            let mut out = String::new();
            namer.push(text, over, &mut out);
            named = Cow::Owned(out);
        }
        let mut replace = |_: &Finding, _: &str, safe: &mut String| safe.push_str(REDACTED);
        self.redactor.push(&named, &mut replace, safe);
        if over {
            self.redactor.finish(&mut replace, safe);
        }
    }
}

impl Heard {
    fn new(scanner: Scanner, namer: Option<Namer>) -> Self {
        Self { scanner, namer, open: Vec::new(), speaker: None, said: String::new(), cut: false }
    }

    fn take(&mut self, place: &Place, text: &str, over: bool) {
        if place.is_again() {
            return;
        }
        let known = self.open.iter().position(|open| open.place == *place);
        if known.is_none() && self.open.len() >= MOST_TEXTS {
            self.cut |= !text.is_empty();
            return;
        }
        let at = known.unwrap_or_else(|| {
            let (namer, redactor) = (self.namer.clone(), Redactor::new(self.scanner.clone()));
            self.open.push(Open { place: place.clone(), namer, redactor });
            self.open.len().saturating_sub(1)
        });
        let Some(open) = self.open.get_mut(at) else { return };
        let mut safe = String::new();
        open.push(text, over, &mut safe);
        if over {
            self.open.remove(at);
        }
        if safe.is_empty() {
            return;
        }
        if self.speaker.as_ref() != Some(place) && !self.said.is_empty() {
            self.said.push('\n');
        }
        self.speaker = Some(place.clone());
        self.said.push_str(&safe);
        if self.said.len() > 2 * LONGEST {
            self.said = last(&self.said, LONGEST).to_owned();
            self.cut = true;
        }
    }
}

impl Filter for Heard {
    fn push(&mut self, place: &Place, text: &str, out: &mut String) {
        out.push_str(text);
        self.take(place, text, false);
    }

    fn finish(&mut self, place: &Place, _: &mut String) {
        self.take(place, "", true);
    }

    fn stopped(&self) -> bool {
        false
    }
}

#[cfg(test)]
#[path = "audit_tests.rs"]
mod tests;
