//! What a request has in it that is screened: its texts and numbers, wherever they stand, and what may take their place.

use std::borrow::Cow;
use std::ops::Range;

use super::call::{Call, range};
use super::credentials::credentials;
use super::json;
use super::part::{Kind, Part};
use super::schema::Schema;

/// The shortest number that is looked at, in digits before its point: no shorter one is anybody's.
const SHORTEST_NUMBER: usize = 4;

/// Characters that every field beside the prompt may have: Google's labels 63, OpenAI's `safety_identifier` and
/// `prompt_cache_key` 64, Amazon's `requestMetadata` and Anthropic's `user_id` 256, OpenAI's `metadata` 512.
pub const SHORTEST: usize = 63;

/// A string or a number of a request, as far as it is screened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written<'a> {
    /// Where it stands in the body, a string with its quotes.
    pub at: Range<usize>,
    /// Whether no model reads it, but the provider's server.
    pub beside: bool,
    /// Whether it is one of the words of a setting, such as `tool_choice`, and nothing that somebody wrote.
    pub setting: bool,
    /// What may be put in its place.
    pub leeway: Leeway,
    /// What it says; of a number its digits, without an exponent.
    pub text: Cow<'a, str>,
}

/// What may be put in the place of a string, so that the request stays legal. A number gives way to a string: where texts
/// are free, so are their types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leeway {
    /// Nothing: thoughts that their provider has signed, and whatever is in a form.
    None,
    /// Small letters, digits, `-` and `_`, no more than [`SHORTEST`] or than there were.
    Plain,
    /// Any text, no more than [`SHORTEST`] characters or than there were.
    Short,
    /// Any text.
    Any,
}

impl Leeway {
    /// What is put in, in the letters that are allowed. What stands around it is the caller's, and stays.
    pub fn spell(self, put: String) -> String {
        let plain = |letter: char| match letter.to_ascii_lowercase() {
            letter if letter.is_alphanumeric() || matches!(letter, '-' | '_') => letter,
            _ => '-',
        };
        if self == Self::Plain { put.chars().map(plain).collect() } else { put }
    }

    /// Whether `retold` is short enough to stand in the place of `text`.
    pub fn takes(self, text: &str, retold: &str) -> bool {
        let most = || text.chars().count().max(SHORTEST);
        self == Self::Any || retold.chars().count() <= most()
    }
}

impl Call {
    /// The same texts as [`texts`](Self::texts), and then what a call tells its provider's server beside them: who asks,
    /// labels, where to stop; each with the numbers in it, but for bounds in schemas, which must stay numbers, and for
    /// seeds, which are drawn and mean nothing.
    pub fn strings(&self) -> impl Iterator<Item = Written<'_>> {
        let read = self.parts.iter().filter(|part| part.is_readable()).map(|part: &Part| {
            let schema = matches!(part.kind, Kind::Tools | Kind::Format).then(Schema::default);
            (part.raw(&self.body), schema, false, false, if part.signed { Leeway::None } else { Leeway::Any })
        });
        let beside = self.beside.iter().map(|beside| {
            let leeway = if beside.plain { Leeway::Plain } else { Leeway::Short };
            (beside.raw(&self.body), None, true, beside.setting, leeway)
        });
        let leaves = read.chain(beside).flat_map(|(raw, mut schema, beside, setting, leeway)| {
            let mut leaves = json::Leaves::of(raw);
            std::iter::from_fn(move || {
                loop {
                    let raw = leaves.next()?;
                    let text = raw.starts_with('"');
                    let name = if text && leaves.is_name() { raw.get(1..raw.len().saturating_sub(1)) } else { None };
                    let value = schema.as_mut().is_none_or(|schema| schema.follow(leaves.depth(), name));
                    if text || value {
                        return Some((raw, beside, setting, leeway));
                    }
                }
            })
        });
        let mut seeds = None;
        leaves.filter_map(move |(raw, beside, setting, leeway)| {
            let text = match raw.starts_with('"') {
                true => json::text(raw)?,
                false if !is_long(raw) => return None,
                false
                    if json::member(&self.body, raw) == Some("seed")
                        && seeds
                            .get_or_insert_with(|| seeds_of(&self.body))
                            .binary_search(&json::offset(&self.body, raw))
                            .is_ok() =>
                {
                    return None;
                }
                false => spelled(raw),
            };
            let leeway = if self.form { Leeway::None } else { leeway };
            Some(Written { at: range(&self.body, raw), beside, setting, leeway, text })
        })
    }

    /// Whether what stands there is the name of a member, of which an object has each once.
    pub fn is_name(&self, at: &Range<usize>) -> bool {
        self.body.get(at.end..).is_some_and(|behind| behind.trim_ascii_start().starts_with(':'))
    }

    /// Where the call hands its provider credentials for servers of tools, in the fields that are there for them; in the
    /// order of the body.
    pub fn credentials(&self) -> Vec<Range<usize>> {
        credentials(&self.body).fields.into_iter().map(|raw| range(&self.body, raw)).collect()
    }

    /// Whether it hands its provider any such credentials, in those fields or in the address of a server.
    pub fn hands_credentials(&self) -> bool {
        let credentials = credentials(&self.body);
        credentials.in_address || !credentials.fields.is_empty()
    }
}

/// Where what requests draw their chance from stands, in the order of the body: beside the prompt, or among the settings of
/// a dialect.
fn seeds_of(body: &str) -> Vec<usize> {
    let mut seeds = Vec::new();
    json::entries(body, |key, raw| match key {
        b"seed" => seeds.push(json::offset(body, raw)),
        b"parameters" | b"generationConfig" | b"generation_config" | b"options" => {
            json::entries(raw, |key, raw| seeds.extend((key == b"seed").then(|| json::offset(body, raw))));
        }
        _ => {}
    });
    seeds
}

/// Whether a number is long enough to be looked at, or may be when its exponent is written out.
pub(super) fn is_long(raw: &str) -> bool {
    let raw = raw.trim_start_matches('-');
    let digits = raw.bytes().take_while(u8::is_ascii_digit).count();
    digits >= SHORTEST_NUMBER || digits > 0 && raw.contains(['e', 'E'])
}

/// The largest exponent that is written out: numbers of people have fewer digits.
const MOST_SHIFTED: usize = 64;

/// A number as it is written, but for its exponent: `4.2e3` is `4200`, `4200e-1` is `420`.
fn spelled(raw: &str) -> Cow<'_, str> {
    match raw.split_once(['e', 'E']) {
        None => Cow::Borrowed(raw),
        Some((mantissa, exponent)) => shifted(mantissa, exponent).map_or(Cow::Borrowed(raw), Cow::Owned),
    }
}

fn shifted(mantissa: &str, exponent: &str) -> Option<String> {
    let left = exponent.starts_with('-');
    let by = exponent.trim_start_matches(['+', '-']).parse().ok().filter(|by: &usize| *by <= MOST_SHIFTED)?;
    // The sign is nobody's.
    let mantissa = mantissa.trim_start_matches('-');
    let mut point = mantissa.find('.').unwrap_or(mantissa.len());
    point = if left { point.checked_sub(by)? } else { point.saturating_add(by) };
    let mut digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    while digits.len() < point {
        digits.push('0');
    }
    let fraction = digits.split_off(point);
    if fraction.bytes().any(|digit| digit != b'0') {
        digits.push('.');
        digits.push_str(&fraction);
    }
    let zeros = digits.len().saturating_sub(digits.trim_start_matches('0').len());
    digits.drain(..zeros);
    Some(digits)
}

#[cfg(test)]
#[path = "written_tests.rs"]
mod tests;
