//! The model catalogue: which line a model's name belongs to, and what its tokens cost.

use globset::{GlobBuilder, GlobMatcher};

use super::band::{self, Band};
use super::bundle::{Model, Models};
use super::diagnostic::{Code, Complaint, Faults, listed, meant, nearest, shown};
use super::fields::{Fields, choice, form, list, map, names, text};
use super::price::{FactorLine, Rates};
use super::scalar::{PricedPer, moment, number, price};
use super::tree::{Entry, Mark, Node, Spanned, Value};
use super::unit;
use crate::meter::count::Encoding;
use crate::meter::dialect::Named;
use crate::order;

/// The longest catalogue: every call looks through it.
const MOST: usize = 1000;

/// The longest name of a model, in bytes.
const LONGEST_NAME: usize = 256;

impl Models {
    /// The line that a model's name belongs to: the exact name, else the longest glob that matches.
    ///
    /// Case counts. Of two globs of one length the one written first wins. A name longer than 256 bytes is none: it
    /// stands in the record of each call, and a record that the collector cannot take holds up all behind it.
    pub fn find(&self, name: &str) -> Option<&Model> {
        if name.len() > LONGEST_NAME {
            return None;
        }
        self.rows.iter().find(|row| match &row.glob {
            None => row.pattern == name,
            Some(glob) => glob.is_match(name),
        })
    }

    /// Puts lines into the order in which they are tried.
    pub(super) fn sorted(mut rows: Vec<Model>) -> Self {
        order::by_key(&mut rows, |row| (row.glob.is_some(), std::cmp::Reverse(row.pattern.len())));
        Self { rows }
    }
}

/// A line of the catalogue as written.
#[derive(Debug)]
pub(super) struct ModelText {
    pub pattern: Spanned<String>,
    pub glob: Option<GlobMatcher>,
    /// The model whose line this one repeats.
    pub alias: Option<Spanned<String>>,
    /// `None`: at fault, and noted; or an alias.
    pub encoding: Option<Encoding>,
    pub credits: Priced,
    pub money: Priced,
    /// What `money` is in, and where that is said.
    pub currency: Option<Spanned<&'static str>>,
    pub factor: Vec<FactorLine>,
    pub speaks: Vec<Named>,
    pub regions: Vec<String>,
}

/// What was said of a model's price.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Priced {
    Stated(Rates),
    NotStated,
    /// Noted among the faults.
    AtFault,
}

impl Priced {
    /// The rates, or nothing where none were stated.
    pub fn rates(self) -> Rates {
        match self {
            Self::Stated(rates) => rates,
            Self::NotStated | Self::AtFault => Rates::default(),
        }
    }
}

/// Reads the `models` section.
pub(super) fn read(node: &Node, zone: &str, faults: &mut Faults) -> Vec<ModelText> {
    let entries = map(node, "models", faults).unwrap_or_default();
    if entries.is_empty() {
        faults.add(
            node.at,
            Code::BadValue,
            "no model is listed",
            "list at least one, for example `\"*\": {count: o200k_base}`",
        );
    }
    if let Some(beyond) = entries.get(MOST) {
        faults.add(
            beyond.at,
            Code::TooLarge,
            format!("more than {MOST} models are listed"),
            "let globs stand for families",
        );
    }
    entries.iter().take(MOST).filter_map(|entry| row(entry, zone, faults)).collect()
}

fn row(entry: &Entry, zone: &str, faults: &mut Faults) -> Option<ModelText> {
    let glob = faults.keep(entry.at, glob(&entry.key))?;
    let mut row = ModelText {
        pattern: Spanned { at: entry.at, value: entry.key.clone() },
        glob: is_glob(&entry.key).then_some(glob),
        alias: None,
        encoding: None,
        credits: Priced::NotStated,
        money: Priced::NotStated,
        currency: None,
        factor: Vec::new(),
        speaks: Vec::new(),
        regions: Vec::new(),
    };
    let what = format!("models.{}", entry.key);
    let known = ["count", "credits", "money", "factor", "speaks", "regions", "alias"];
    let fields = Fields::of(&entry.value, what, &known, faults)?;
    if let Some(node) = fields.optional("alias") {
        row.alias = super::document::reference(node, &fields.path("alias"), faults);
        let others = ["count", "credits", "money", "factor", "speaks", "regions"];
        if let Some(other) = others.into_iter().find(|key| fields.optional(key).is_some()) {
            let message = format!("an alias has no `{other}` of its own");
            faults.add(fields.key_at(other), Code::Conflict, message, "remove it, or do not make this line an alias");
        }
        return Some(row);
    }
    row.encoding = fields
        .required("count", "name the vocabulary that counts its text, for example `count: o200k_base`", faults)
        .and_then(|node| encoding(node, faults));
    let priced = |key: &str, per: PricedPer, faults: &mut Faults| match fields.optional(key) {
        None => (Priced::NotStated, None),
        Some(node) => {
            let mut currency = None;
            let rates = rates(node, &fields.path(key), key == "money", per, &mut currency, faults);
            (rates.map_or(Priced::AtFault, Priced::Stated), currency)
        }
    };
    (row.credits, _) = priced("credits", PricedPer::Thousand, faults);
    (row.money, row.currency) = priced("money", PricedPer::Million, faults);
    if let Some(node) = fields.optional("factor") {
        row.factor = factor(node, &fields.path("factor"), zone, faults);
    }
    if let Some(node) = fields.optional("speaks") {
        let items = list(node, &fields.path("speaks"), faults).unwrap_or_default();
        row.speaks = items.iter().filter_map(|item| api(item, &fields.path("speaks"), faults)).collect();
    }
    if let Some(node) = fields.optional("regions") {
        row.regions = names(node, &fields.path("regions"), faults).into_iter().map(|region| region.value).collect();
    }
    Some(row)
}

fn encoding(node: &Node, faults: &mut Faults) -> Option<Encoding> {
    let written = text(node, "count", faults)?;
    let known = Encoding::from_name(written);
    if known.is_none() {
        let help = meant(written, Encoding::ALL.iter().map(|encoding| encoding.name()), "vocabularies");
        faults.add(node.at, Code::UnknownEncoding, format!("unknown vocabulary {}", shown(written)), help);
    }
    known
}

const TOKEN_RATES: [&str; 6] = ["input", "cache_read", "cache_write", "cache_write_1h", "output", "reasoning"];
const OTHER_RATES: [&str; 6] = ["request", "prompt", "tool_call", "image", "character", "second"];

/// `0`, or a price for each direction. Cached input costs what input costs, an hour in a cache what some minutes cost, and
/// reasoning what output costs, unless it is said. Calls, prompts, tools, images, characters and
/// seconds are priced by the piece. A price by the piece alone leaves tokens free.
fn rates(
    node: &Node,
    what: &str,
    money: bool,
    per: PricedPer,
    currency: &mut Option<Spanned<&'static str>>,
    faults: &mut Faults,
) -> Option<Rates> {
    let example = if money { "{currency: CNY, input: …, output: …}" } else { "{input: …, output: …}" };
    if let Value::Plain(number) = &node.value {
        if price(number, per) == Ok(0) {
            return Some(Rates::default());
        }
        let message = format!("{what} cannot be {}: input and output are priced apart", shown(number));
        let help = match money {
            false => "write `0` for free, or `{input: …, output: …}` per 1,000 tokens".to_owned(),
            true => format!("write `0` for free, or `{example}` per million tokens"),
        };
        faults.add(node.at, Code::BadValue, message, help);
        return None;
    }
    let mut known = [&TOKEN_RATES[..], &OTHER_RATES[..], &["per"]].concat();
    if money {
        known.push("currency");
    }
    let fields = Fields::of(node, what, &known, faults)?;
    let words = [("1 token", PricedPer::One), ("1000 tokens", PricedPer::Thousand), ("1m tokens", PricedPer::Million)];
    let per = match fields.optional("per") {
        None => per,
        Some(node) => choice(node, &fields.path("per"), &words, faults)?,
    };
    if money {
        let help = "say which currency the price is in, for example `currency: CNY`";
        let code = fields.required("currency", help, faults)?;
        *currency = form(code, &fields.path("currency"), faults, code_of);
    }
    let rate = |key: &str, per: PricedPer, faults: &mut Faults| {
        let node = fields.optional(key)?;
        Some(form(node, what, faults, |written| price(written, per)).map(|rate| rate.value))
    };
    let piece = |key: &str, faults: &mut Faults| rate(key, PricedPer::One, faults).unwrap_or(Some(0));
    let (request, prompt, tool_call) = (piece("request", faults), piece("prompt", faults), piece("tool_call", faults));
    let (image, character, second) = (piece("image", faults), piece("character", faults), piece("second", faults));
    let by_piece = OTHER_RATES.iter().any(|key| fields.optional(key).is_some());
    let by_token = TOKEN_RATES.iter().any(|key| fields.optional(key).is_some());
    let free = by_piece && !by_token;
    let help = "state the price of `input` and `output`; cached input costs as much as `input` unless it is said";
    let base = |key: &str, faults: &mut Faults| match free {
        true => Some(0),
        false => fields.required(key, help, faults).and_then(|_| rate(key, per, faults).flatten()),
    };
    let (input, output) = (base("input", faults), base("output", faults));
    let other = |key: &str, otherwise: Option<u64>, faults: &mut Faults| rate(key, per, faults).unwrap_or(otherwise);
    let (cache_read, cache_write) = (other("cache_read", input, faults), other("cache_write", input, faults));
    let cache_write_1h = other("cache_write_1h", cache_write, faults);
    let reasoning = other("reasoning", output, faults);
    Some(Rates {
        input: input?,
        cache_read: cache_read?,
        cache_write: cache_write?,
        cache_write_1h: cache_write_1h?,
        output: output?,
        reasoning: reasoning?,
        request: request?,
        prompt: prompt?,
        tool_call: tool_call?,
        image: image?,
        character: character?,
        second: second?,
    })
}

fn code_of(written: &str) -> Result<&'static str, Complaint> {
    unit::currency(written).ok_or_else(|| {
        let message = format!("{} is no currency that is known", shown(written));
        Complaint::new(Code::UnknownUnit, message, "write its ISO 4217 code, for example `CNY` or `USD`")
    })
}

/// `2`, or a list of lines of which the first that applies decides.
fn factor(node: &Node, what: &str, zone: &str, faults: &mut Faults) -> Vec<FactorLine> {
    let always = |factor: u64| FactorLine {
        factor,
        band: Band { times: None, days: [false; 7], zone: zone.to_owned() },
        dates: (0, u64::MAX),
        apis: Vec::new(),
        above: None,
    };
    if let Value::Plain(_) = &node.value {
        return form(node, what, faults, number).map(|factor| always(factor.value)).into_iter().collect();
    }
    let mut lines = Vec::new();
    let mut last: Option<Mark> = None;
    for item in list(node, what, faults).unwrap_or_default() {
        if let Some(last) = last {
            let message = format!("this line has no effect: line {} comes first and always applies", last.line);
            faults.add(item.at, Code::Shadowed, message, "move it up, or remove it");
            break;
        }
        let Some(line) = factor_line(item, what, always(0), faults) else { continue };
        if line.is_always() {
            last = Some(item.at);
        }
        lines.push(line);
    }
    lines
}

fn factor_line(node: &Node, what: &str, mut line: FactorLine, faults: &mut Faults) -> Option<FactorLine> {
    let known = ["factor", "times", "days", "zone", "from", "until", "api", "above"];
    let fields = Fields::of(node, what, &known, faults)?;
    let stated = fields.required("factor", "say what the calls weigh, for example `factor: 3`", faults)?;
    line.factor = form(stated, &fields.path("factor"), faults, number)?.value;
    line.band = band::read(&fields, &line.band.zone, faults)?;
    let zone = line.band.zone.clone();
    let at = |key: &str, faults: &mut Faults| {
        let node = fields.optional(key)?;
        form(node, &fields.path(key), faults, |written| moment(written, &zone)).map(|at| at.value)
    };
    line.dates = (at("from", faults).unwrap_or(0), at("until", faults).unwrap_or(u64::MAX));
    if line.dates.0 >= line.dates.1 {
        let message = "the dates end before they begin";
        faults.add(fields.key_at("until"), Code::Conflict, message, "`until` is the first moment that is outside");
    }
    if let Some(node) = fields.optional("api") {
        line.apis.push(api(node, &fields.path("api"), faults)?);
    }
    if let Some(node) = fields.optional("above") {
        line.above = Some(form(node, &fields.path("above"), faults, super::plan::tokens_only)?.value);
    }
    Some(line)
}

/// The name of an API: `embeddings`, or of a wire format, `openai chat`.
fn api(node: &Node, what: &str, faults: &mut Faults) -> Option<Named> {
    let written = text(node, what, faults)?;
    let known = Named::from_name(written);
    if known.is_none() {
        let names: Vec<String> = Named::all().map(|named| named.name().replace('-', " ")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let near = nearest(written, &names).map(|near| format!("did you mean `{near}`? "));
        let help = format!("{}write {}", near.unwrap_or_default(), listed(&names));
        faults.add(node.at, Code::BadValue, format!("{what} cannot be {}", shown(written)), help);
    }
    known
}

/// Whether a pattern is more than an exact name.
pub(super) fn is_glob(pattern: &str) -> bool {
    pattern.contains(['*', '?', '[', '{'])
}

/// A matcher for a name or glob; an exact name matches itself only.
pub(super) fn glob(pattern: &str) -> Result<GlobMatcher, Complaint> {
    const LONGEST: usize = 128;
    let fits = |c: char| c.is_ascii_graphic() && !matches!(c, '\\' | '"' | '`');
    if pattern.is_empty() || pattern.len() > LONGEST || !pattern.chars().all(fits) {
        let help = format!("write up to {LONGEST} visible ASCII characters without `\\` and quotes");
        return Err(Complaint::new(Code::BadValue, format!("{} is no model name or glob", shown(pattern)), help));
    }
    let built = GlobBuilder::new(pattern).literal_separator(false).backslash_escape(false).build();
    built.map(|glob| glob.compile_matcher()).map_err(|error| {
        let message = format!("{} is no glob: {}", shown(pattern), error.kind());
        Complaint::new(
            Code::BadValue,
            message,
            "use `*` for any text and `?` for one character; close every `[` and `{`",
        )
    })
}

/// Whether some name could match both patterns. Where that cannot be told (classes, alternatives): yes.
pub(super) fn overlap(one: &str, other: &str) -> bool {
    if one.contains(['[', '{']) || other.contains(['[', '{']) {
        return true;
    }
    let literal = |pattern: &'_ str| pattern.split(['*', '?']).next().map_or(0, str::len);
    let common = literal(one).min(literal(other));
    if one.get(..common) != other.get(..common) {
        return false;
    }
    let other: Vec<char> = other.chars().collect();
    // `reach[j]`: the part of `one` read so far and the first `j` characters of `other` have a name in common.
    let mut reach = vec![false; other.len() + 1];
    first_row(&mut reach, &other);
    for a in one.chars() {
        let mut next = vec![false; other.len() + 1];
        let mut left = false;
        for (j, cell) in next.iter_mut().enumerate() {
            let at = |j: Option<usize>| j.and_then(|j| reach.get(j)).copied().unwrap_or(false);
            let (above, diagonal) = (at(Some(j)), at(j.checked_sub(1)));
            let b = j.checked_sub(1).and_then(|j| other.get(j)).copied();
            *cell = match (a, b) {
                (_, None) => above && a == '*',
                ('*', Some(_)) | (_, Some('*')) => above || left,
                (a, Some(b)) => diagonal && (a == b || a == '?' || b == '?'),
            };
            left = *cell;
        }
        reach = next;
    }
    reach.last().copied().unwrap_or(false)
}

/// Nothing of one pattern read: only stars of the other have the empty name in common with it.
fn first_row(reach: &mut [bool], other: &[char]) {
    let mut empty = true;
    for (j, cell) in reach.iter_mut().enumerate() {
        if let Some(before) = j.checked_sub(1) {
            empty = empty && other.get(before) == Some(&'*');
        }
        *cell = empty;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn models(patterns: &[&str]) -> Models {
        let row = |pattern: &&str| Model {
            pattern: (*pattern).to_owned(),
            glob: is_glob(pattern).then(|| glob(pattern).unwrap()),
            encoding: Encoding::O200kBase,
            credits: Rates::default(),
            money: Rates::default(),
            factor: Vec::new(),
            speaks: Vec::new(),
            regions: Vec::new(),
            alias: None,
        };
        Models::sorted(patterns.iter().map(row).collect())
    }

    #[test]
    fn an_exact_name_beats_a_glob_and_a_longer_glob_a_shorter() {
        let models = models(&["*", "demo-*", "demo-small", "demo-s*", "openai/*"]);
        let found = |name| models.find(name).map(|row| row.pattern.as_str());
        assert_eq!(found("demo-small"), Some("demo-small"));
        assert_eq!(found("demo-smaller"), Some("demo-s*"));
        assert_eq!(found("demo-large"), Some("demo-*"));
        assert_eq!(found("Demo-small"), Some("*"));
        assert_eq!(found("openai/gpt/4"), Some("openai/*"));
    }

    #[test]
    fn nothing_matches_nothing() {
        assert!(models(&["demo-*"]).find("gpt-4o").is_none());
        assert!(models(&["demo-*"]).find("").is_none());
    }

    #[test]
    fn a_name_that_would_burst_a_record_is_none() {
        assert!(models(&["demo-*"]).find(&format!("demo-{}", "x".repeat(251))).is_some());
        assert!(models(&["demo-*"]).find(&format!("demo-{}", "x".repeat(252))).is_none());
    }

    #[test]
    fn globs_overlap_when_a_name_matches_both() {
        assert!(overlap("demo-*", "*-small"));
        assert!(overlap("demo-*", "demo-small"));
        assert!(overlap("*", ""));
        assert!(overlap("a?c", "ab*"));
        assert!(!overlap("demo-*", "gpt-*"));
        assert!(!overlap("abc", "ab"));
        assert!(!overlap("?", ""));
    }

    proptest! {
        /// A pattern overlaps an exact name just when it matches it.
        #[test]
        fn overlap_agrees_with_matching(pattern in "[ab*?]{1,8}", name in "[ab]{0,8}") {
            let matches = glob(&pattern).unwrap().is_match(&name);
            prop_assert_eq!(overlap(&pattern, &name), matches);
            prop_assert_eq!(overlap(&name, &pattern), matches);
        }
    }
}
