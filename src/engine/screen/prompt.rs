//! What is found in what is asked, and what is done about it.

use std::borrow::Cow;
use std::ops::Range;

use super::names::Named;
use super::{Tally, denial, described};
use crate::engine::denial::{Denial, Kind};
use crate::meter::call::{Call, Edit, retold};
use crate::meter::form::hides_text;
use crate::meter::members::Members;
use crate::meter::written::{Leeway, Written};
use crate::order;
use crate::policy::bundle::{Bundle, OnUnknown, Plan, Screen};
use crate::scan::{Action, Finding, Mask, Quotes, Rule, Scanner};

/// A prompt, screened.
pub(in crate::engine) struct Prompt {
    /// What is changed in the body, in its order.
    pub edits: Vec<Edit>,
    /// Who knows the names that were given.
    pub mask: Mask,
}

/// What is told of a finding that should have been changed and could not be.
const UNCHANGED: &str = "unchanged";

/// The rule that looks for words, and not for things.
const KEYWORDS: &str = "keywords";

/// Where something was found.
const PROMPT: &str = "prompt";
const BODY: &str = "request";
const BESIDE: &str = "request, beside its prompt,";

/// Screens every text and number that a model will read, and what the call tells its provider's server beside it. A refusal
/// names the rule and the shape, and never what was found.
///
/// Thoughts that their provider has signed stay as they are: it made them, and takes them back in no other words. What
/// must be changed in a form cannot be, because its fields are no JSON, and numbers of tokens cannot be read: there the
/// plan's `on_error` decides. Credentials in the fields that servers of tools have for them stay: without them the call
/// would be none, and whether it may have any is for `tools` to say. Keywords are not looked for among the words of a
/// setting, which are the provider's.
pub(in crate::engine) fn prompt(
    plan: &Plan,
    bundle: &Bundle,
    call: &Call,
    tally: &mut Tally,
) -> Result<Prompt, Denial> {
    let mut mask = Mask::new(bundle.mask_key);
    let Some(Screen { scanner, on_error }) = &plan.security.input else {
        return Ok(Prompt { edits: Vec::new(), mask });
    };
    let (named, members, credentials) = (None, None, None);
    let mut pass = Pass { plan, call, scanner, on_error: *on_error, mask: &mut mask, named, members, credentials };
    let mut edits = Vec::new();
    for written in call.strings() {
        edits.extend(pass.one(&written, tally)?);
    }
    order::by_key(&mut edits, |edit| edit.at.start);
    let enforced = scanner.rules().iter().any(|rule| rule.action != Action::Observe);
    if call.numbered && enforced {
        tally.unread = Some(if *on_error == OnUnknown::Deny { "deny" } else { "pass" });
        if *on_error == OnUnknown::Deny {
            let what = "the prompt is in numbers of tokens, which cannot be screened";
            let inside = format!("{what}, and `on_error` of plan `{}` denies", plan.name);
            return Err(Denial::guard(Kind::Forbidden, "on_error", format!("{what}; send it as text"), inside));
        }
    }
    Ok(Prompt { edits, mask })
}

/// A request on its way through the screen of its plan.
struct Pass<'p> {
    plan: &'p Plan,
    call: &'p Call,
    scanner: &'p Scanner,
    on_error: OnUnknown,
    mask: &'p mut Mask,
    /// Names that stand in the body already, once one is wanted.
    named: Option<Named>,
    /// The names of its members, once one is to be changed.
    members: Option<Members>,
    /// Where credentials stand, once somebody has asked.
    credentials: Option<Vec<Range<usize>>>,
}

impl Pass<'_> {
    /// What becomes of one string or number. `None`: it stays.
    fn one(&mut self, written: &Written<'_>, tally: &mut Tally) -> Result<Option<Edit>, Denial> {
        let Written { at, beside, setting, leeway, text } = written;
        let mut found = self.scanner.find(text);
        found.retain(|finding| !setting || self.rule(finding).is_none_or(|rule| rule.name != KEYWORDS));
        let Some(first) = found.first().cloned() else { return Ok(None) };
        let credential = self.is_credential(at);
        let changeable = *leeway != Leeway::None && !credential;
        for finding in &found {
            let Some(rule) = self.scanner.rules().get(finding.rule) else { continue };
            let stays = match rule.action {
                Action::Observe => false,
                Action::Deny => credential,
                _ => !changeable,
            };
            tally.add_as(rule, if stays { UNCHANGED } else { rule.action.name() });
            if rule.action == Action::Deny && !credential {
                return Err(denial(rule, finding, if *beside { BESIDE } else { PROMPT }, self.plan));
            }
            if stays && self.call.is_form() && self.on_error == OnUnknown::Deny {
                return Err(unchangeable(rule, finding, self.plan));
            }
        }
        if !changeable {
            return Ok(None);
        }
        // A number gives way as a whole, so that nothing of it stays beside the words.
        if self.call.body().get(at.start) != Some(&b'"') {
            found.retain(|finding| self.rule(finding).is_some_and(|rule| rule.action != Action::Observe));
            found.truncate(1);
            found.iter_mut().for_each(|finding| finding.range = 0..text.len());
        }
        let Some(mut said) = self.retell(written, &found, false) else { return Ok(None) };
        if !leeway.takes(text, &said) {
            said = self.retell(written, &found, true).unwrap_or(said);
        }
        if self.call.is_name(at) {
            let name = self.distinct(text, &said).filter(|name| leeway.takes(text, name));
            let Some(rule) = self.rule(&first) else { return Ok(None) };
            said = name.ok_or_else(|| crowded(rule, &first, self.plan))?;
        }
        Ok(Some(retold(at.clone(), &said)))
    }

    fn rule(&self, finding: &Finding) -> Option<&Rule> {
        self.scanner.rules().get(finding.rule)
    }

    fn is_credential(&mut self, at: &Range<usize>) -> bool {
        let all = self.credentials.get_or_insert_with(|| self.call.credentials());
        let behind = all.partition_point(|credential| credential.start <= at.start);
        let before = behind.checked_sub(1).and_then(|last| all.get(last));
        before.is_some_and(|credential| at.end <= credential.end)
    }

    /// The text without what was found in it; `brief`: no longer than it was. `None`: nothing of it is changed.
    fn retell(&mut self, written: &Written<'_>, found: &[Finding], brief: bool) -> Option<String> {
        let named = &mut self.named;
        let mut words = |rule: &Rule, hidden: &str| {
            let words = match rule.action {
                _ if brief => Mask::brief(rule, hidden),
                Action::Pseudonym => {
                    let named = named.get_or_insert_with(|| Named::of(self.call.body(), self.scanner.rules()));
                    self.mask.replace(rule, hidden, |name| named.has(name))
                }
                _ => self.mask.replace(rule, hidden, |_| false),
            };
            words.map(|words| written.leeway.spell(words))
        };
        retell(&written.text, found, self.scanner, &mut words)
    }

    /// A name for a member that no other member has, the same for the same name. `None`: there are too many.
    fn distinct(&mut self, name: &str, wanted: &str) -> Option<String> {
        self.members.get_or_insert_with(|| Members::of(self.call.body())).rename(name, wanted)
    }
}

/// A text with other `words` in the place of what was found in it. `None`: nothing of it is changed.
fn retell(
    text: &str,
    found: &[Finding],
    scanner: &Scanner,
    words: &mut dyn FnMut(&Rule, &str) -> Option<String>,
) -> Option<String> {
    let (mut out, mut from, mut quotes, mut changed) = (String::new(), 0, Quotes::default(), false);
    for finding in found {
        let Some(rule) = scanner.rules().get(finding.rule) else { continue };
        let hidden = text.get(finding.range.clone()).unwrap_or_default();
        let Some(words) = words(rule, hidden) else { continue };
        let followed = out.len();
        out.push_str(text.get(from..finding.range.start).unwrap_or_default());
        quotes.follow(&mut out, followed);
        quotes.put(hidden, &words, &mut out);
        (from, changed) = (finding.range.end, true);
    }
    let followed = out.len();
    out.push_str(text.get(from..).unwrap_or_default());
    quotes.follow(&mut out, followed);
    quotes.finish(&mut out);
    changed.then_some(out)
}

/// Screens the body of a call that goes through unmetered, as one text. `None`: it leaves as it is.
///
/// Bytes that are no text (a picture, perhaps in a form) are passed over. Where something must be changed beside them, or
/// nothing can be read because the body is compressed, never ends, or is a text in other letters than UTF-8, the plan's
/// `on_error` decides. Names for what is hidden are not given, because nobody could put them back.
pub(in crate::engine) fn unmetered(
    plan: &Plan,
    bundle: &Bundle,
    body: Option<&[u8]>,
    content: &Content,
    tally: &mut Tally,
) -> Result<Option<Vec<u8>>, Denial> {
    let Some(Screen { scanner, on_error }) = &plan.security.input else { return Ok(None) };
    let Some(body) = body else {
        let unread = unread(plan, scanner, *on_error, "it is compressed, or has no end", tally);
        return unread.map(|()| None);
    };
    let text = String::from_utf8_lossy(body);
    let found = scanner.find(&text);
    let whole = matches!(text, Cow::Borrowed(_));
    for finding in &found {
        let Some(rule) = scanner.rules().get(finding.rule) else { continue };
        let stays = !whole && !matches!(rule.action, Action::Deny | Action::Observe);
        tally.add_as(rule, if stays { UNCHANGED } else { rule.action.name() });
        if rule.action == Action::Deny {
            return Err(denial(rule, finding, BODY, plan));
        }
        if stays && *on_error == OnUnknown::Deny {
            return Err(unchangeable(rule, finding, plan));
        }
    }
    if content.hides(body, whole) {
        unread(plan, scanner, *on_error, "it is no UTF-8", tally)?;
    }
    if !whole {
        return Ok(None);
    }
    let mut mask = Mask::new(bundle.mask_key);
    let told = retell(&text, &found, scanner, &mut |rule, hidden| match rule.action {
        Action::Pseudonym => Some(format!("[{}]", rule.name)),
        _ => mask.replace(rule, hidden, |_| false),
    });
    Ok(told.map(String::into_bytes))
}

/// What a body says that it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::engine) enum Content {
    Text,
    /// A form, with files in it, and the header that says so.
    Files(Vec<u8>),
    /// Nothing that tells whether it is text.
    Unsaid,
}

impl Content {
    /// By the header of this name.
    pub fn of(content_type: Option<&[u8]>) -> Self {
        let header = content_type.unwrap_or_default();
        let kind = header.trim_ascii().to_ascii_lowercase();
        let has = |word: &[u8]| memchr::memmem::find(&kind, word).is_some();
        match &kind {
            kind if kind.starts_with(b"multipart/") => Self::Files(header.to_vec()),
            kind if kind.starts_with(b"text/") => Self::Text,
            _ if [b"json".as_slice(), b"xml", b"yaml", b"javascript", b"urlencoded", b"charset="]
                .iter()
                .any(|it| has(it)) =>
            {
                Self::Text
            }
            _ => Self::Unsaid,
        }
    }

    /// Whether there is a text in a body that cannot be looked at: it is no UTF-8, or it has zero bytes, as UTF-16 has in
    /// every letter of ours. Where nothing says that it is a text, its first bytes do, or that it has none of the controls
    /// that are in everything but texts.
    fn hides(&self, body: &[u8], utf8: bool) -> bool {
        let control = |byte: &u8| matches!(byte, 0..=8 | 14..=26 | 28..=31 | 127);
        match self {
            Self::Text => !utf8 || body.contains(&0),
            Self::Files(content_type) => hides_text(content_type, body),
            Self::Unsaid if is_wide(body) => true,
            Self::Unsaid => !utf8 && !body.iter().any(control),
        }
    }
}

/// Whether a body is a text in UTF-16: it begins with its mark or with letters of ours, or all of it is one, in which there
/// are some.
fn is_wide(body: &[u8]) -> bool {
    let zeros = |from: usize| body.iter().skip(from).step_by(2).take(8).all(|byte| *byte == 0);
    let letters = |from: usize| body.iter().skip(from).step_by(2).take(8).all(|byte| matches!(byte, b'\t'..=b'~'));
    let marked = body.starts_with(b"\xff\xfe") || body.starts_with(b"\xfe\xff");
    let begins = body.len() >= 4 && (letters(0) && zeros(1) || zeros(0) && letters(1));
    marked || begins || is_text(body, u16::from_le_bytes) || is_text(body, u16::from_be_bytes)
}

/// Whether these are characters without a control among them, and so many letters of ours in a row that no chance puts them
/// there.
fn is_text(body: &[u8], unit: fn([u8; 2]) -> u16) -> bool {
    const IN_A_ROW: u32 = 4;
    let units = body.chunks_exact(2).filter_map(|pair| pair.try_into().ok().map(unit));
    let (mut row, mut longest) = (0_u32, 0);
    let plain = char::decode_utf16(units).all(|character| {
        let letter = character.as_ref().is_ok_and(|letter| matches!(letter, ' '..='~'));
        row = if letter { row.saturating_add(1) } else { 0 };
        longest = longest.max(row);
        character.is_ok_and(|character| !character.is_control() || matches!(character, '\t' | '\n' | '\r'))
    });
    plain && longest >= IN_A_ROW
}

/// What becomes of a body that cannot be read, because of `why`.
fn unread(plan: &Plan, scanner: &Scanner, on_error: OnUnknown, why: &str, tally: &mut Tally) -> Result<(), Denial> {
    if scanner.rules().iter().all(|rule| rule.action == Action::Observe) || on_error == OnUnknown::Pass {
        tally.unread = Some("pass");
        return Ok(());
    }
    tally.unread = Some("deny");
    let what = "the body cannot be screened";
    let inside = format!("{what}: {why}; `on_error` of plan `{}` denies", plan.name);
    Err(Denial::guard(Kind::Forbidden, "on_error", format!("{what}; send it plainly, in UTF-8"), inside))
}

/// A form in which something must be changed.
fn unchangeable(rule: &Rule, finding: &Finding, plan: &Plan) -> Denial {
    let (what, action) = (described(rule, finding), rule.action.name());
    let inside = format!(
        "the form carries {what}; plan `{}` says {action} of `{}`, but a form cannot be changed, and `on_error` denies",
        plan.name, rule.name
    );
    let outside = format!("the form carries {what}, which cannot be hidden in a form; take it out and send it again");
    Denial::guard(Kind::Forbidden, "on_error", outside, inside)
}

/// Names of members that could not be told apart any more.
fn crowded(rule: &Rule, finding: &Finding, plan: &Plan) -> Denial {
    let what = described(rule, finding);
    let inside = format!(
        "names of members carry {what}; plan `{}` says {} of `{}`, and there is no room to tell them apart then",
        plan.name,
        rule.action.name(),
        rule.name
    );
    let outside = format!("the request carries {what} in the names of its members; take it out and send it again");
    Denial::guard(Kind::Forbidden, &rule.name, outside, inside)
}
