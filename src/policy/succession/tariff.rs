//! The price list that plans charge by, as far as an update has to keep it.
//!
//! The catalogue is one for all plans, so a version that was sold is priced by lines that stand outside of it. A name that
//! it could ask for goes on at the price it had: by the same line, or by another one that costs the same. Lines for names
//! that had no price are new, and take nothing from anybody; a name that is gone is refused, and costs nothing. What a
//! version was sold at is remembered when the line is gone, and when the version is: neither comes back at another price.
//!
//! How text is counted (`count`), where a model is served and by which API is no price.

use sha2::{Digest, Sha256};

use crate::policy::bundle::PriceOf;
use crate::policy::compile::model_text;
use crate::policy::diagnostic::{Code, Faults, shown};
use crate::policy::document::Document;
use crate::policy::models::{ModelText, glob, overlap};
use crate::policy::plan::PlanText;
use crate::policy::price::{FactorLine, Rates};
use crate::policy::tokens::ReliefText;
use crate::policy::tree::{Mark, Spanned};
use crate::policy::unit::Unit;
use crate::quota::MICRO;

/// The lines of a catalogue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tariff {
    pub lines: Vec<Line>,
    /// Those that are not listed any more, or not at that price.
    pub past: Vec<Past>,
}

/// A line that is past, and the versions that were sold at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Past {
    pub line: Line,
    pub of: Vec<String>,
}

/// The most pairs of a version and a past line that are remembered: what is past later than that is not.
const MOST_PAST: usize = 65_536;

/// A line: what it is for, and what stands for each of its prices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub pattern: String,
    pub glob: bool,
    /// By [`Price`]; each with the factor that applies to it.
    pub prices: [u64; 3],
    pub at: Mark,
}

/// What a plan counts by, as a place in [`Line::prices`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Price {
    Credits = 0,
    Money = 1,
    Weight = 2,
}

impl Price {
    const ALL: [Self; 3] = [Self::Credits, Self::Money, Self::Weight];

    fn of(unit: Unit) -> Option<Self> {
        match unit {
            Unit::Credits => Some(Self::Credits),
            Unit::Money(_) => Some(Self::Money),
            unit if unit.is_weighted() => Some(Self::Weight),
            _ => None,
        }
    }
}

/// Which prices a plan charges by. `None`: it does not count in this one; an empty list: all models.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Reach {
    /// By [`Price`]: the patterns of models whose calls count.
    pub by: [Option<Vec<String>>; 3],
    /// The patterns of all models that it can come to.
    pub models: Vec<String>,
}

impl Reach {
    /// That of a plan.
    pub fn of(plan: &PlanText) -> Self {
        let mut by: [Option<Vec<String>>; 3] = Default::default();
        let terms = plan.quotas.iter().filter_map(|quota| quota.terms.as_ref());
        let quotas = terms.map(|terms| (terms.unit, values(&terms.models)));
        for (unit, models) in quotas.chain(plan.packs.iter().map(|packs| (packs.unit, Vec::new()))) {
            let Some(counted) = Price::of(unit).and_then(|price| by.get_mut(price as usize)) else { continue };
            match counted {
                None => *counted = Some(models),
                Some(all) if all.is_empty() => {}
                Some(all) if models.is_empty() => all.clear(),
                Some(some) => some.extend(models),
            }
        }
        Self { by, models: models_of(plan) }
    }

    fn has(&self, price: Price, pattern: &str) -> bool {
        let among = |models: &[String]| models.is_empty() || models.iter().any(|model| overlap(model, pattern));
        let counted = self.by.get(price as usize).and_then(Option::as_ref);
        counted.is_some_and(|models| among(models)) && among(&self.models)
    }

    /// Whether it charges by any price.
    pub fn is_priced(&self) -> bool {
        self.by.iter().any(Option::is_some)
    }
}

fn values(patterns: &[Spanned<String>]) -> Vec<String> {
    patterns.iter().map(|pattern| pattern.value.clone()).collect()
}

/// What its calls may be for, or sent to. Empty: anything.
fn models_of(plan: &PlanText) -> Vec<String> {
    let mut models = match &plan.forced {
        Some(forced) => vec![forced.value.clone()],
        None => values(&plan.models),
    };
    if models.is_empty() || plan.price_of != PriceOf::Requested {
        return Vec::new();
    }
    let full = plan.quotas.iter().filter_map(|quota| quota.terms.as_ref()).flat_map(|terms| &terms.full);
    models.extend(plan.empty.iter().chain(full).filter_map(|step| match &step.value {
        ReliefText::Downgrade(model) => Some(model.clone()),
        _ => None,
    }));
    models.extend(plan.fallback.iter().map(|rule| rule.to.value.clone()));
    models
}

impl Tariff {
    /// That of a document.
    pub fn of(document: &Document) -> Self {
        Self { lines: document.models.iter().map(|row| line(row, document)).collect(), past: Vec::new() }
    }

    /// Notes every line by which a plan that was sold would charge otherwise than by the price list `before`. `listed`: it
    /// was sold by that still.
    pub fn keep(&self, before: &Self, (plan, reach): (&str, &Reach), listed: bool, faults: &mut Faults) {
        let of_it = |past: &&Past| past.of.iter().any(|of| of == plan);
        let past = before.past.iter().filter(of_it).map(|past| &past.line);
        let lines: &[Line] = if listed { &before.lines } else { &[] };
        // Of two lines that stayed the nearer one is still the nearer.
        let moving: Vec<&Line> = lines.iter().filter(|old| !self.lists(old)).chain(past.clone()).collect();
        let all: Vec<&Line> = lines.iter().chain(past).collect();
        for new in &self.lines {
            if faults.are_full() {
                return;
            }
            let others = if listed && before.lists(new) { &moving } else { &all };
            let mut others = others.iter().copied();
            if let Some(moved) = others.find(|old| self.meet(&all, old, new, reach)) {
                let said = match moved.pattern == new.pattern {
                    true => format!("the model {} costs something else", shown(&new.pattern)),
                    false => format!(
                        "{} costs something else than {}, which was for it",
                        shown(&new.pattern),
                        shown(&moved.pattern)
                    ),
                };
                let message = format!("{said}, and the plan {} was sold at that price", shown(plan));
                let help = match listed {
                    true => format!(
                        "keep the price as long as `{plan}` is listed: write a version with `prices: open`, which follows the price list, migrate its subscribers to that, and take `{plan}` out"
                    ),
                    false => "write what is sold now under a new version".to_owned(),
                };
                faults.add(new.at, Code::Succession, message, help);
            }
        }
    }

    /// Whether some name fell to `old`, falls to `new` now, and costs the plan something else. `before`: all lines that it
    /// was sold at.
    fn meet(&self, before: &[&Line], old: &Line, new: &Line, reach: &Reach) -> bool {
        let differ = |price: &Price| old.prices.get(*price as usize) != new.prices.get(*price as usize);
        let counted = |price: Price| reach.has(price, &old.pattern) && reach.has(price, &new.pattern);
        if !Price::ALL.into_iter().filter(differ).any(counted) || !old.shares_names_with(new) {
            return false;
        }
        // Whatever both match falls to the nearer one of them, where that is listed too.
        let nearer = |one: &Line, than: &Line| one.pattern != than.pattern && one.rank() < than.rank();
        let taken_before = nearer(new, old) && before.iter().any(|line| line.pattern == new.pattern);
        let taken_now = nearer(old, new) && self.lines.iter().any(|line| line.pattern == old.pattern);
        !taken_before && !taken_now
    }

    /// Whether it has this line at this price.
    fn lists(&self, line: &Line) -> bool {
        self.lines.iter().any(|other| other.is_same(line))
    }

    /// Remembers the lines of the price list `before` that are past: those of `sold`, the versions that were listed with
    /// it and whether they are still, and what it remembered itself of the versions that `known` has.
    pub fn remember<'a>(
        &mut self,
        before: &Self,
        sold: impl Iterator<Item = (&'a str, &'a Reach, bool)>,
        known: impl Fn(&str) -> bool,
    ) {
        let mut pairs = 0_usize;
        for Past { line, of } in &before.past {
            let of: Vec<String> = of.iter().filter(|of| known(of)).cloned().collect();
            pairs = pairs.saturating_add(of.len());
            if !of.is_empty() {
                self.past.push(Past { line: line.clone(), of });
            }
        }
        let gone: Vec<&Line> = before.lines.iter().filter(|line| !self.lists(line)).collect();
        let all: Vec<&Line> = before.lines.iter().collect();
        for (plan, reach, listed) in sold {
            let lines = if listed { &gone } else { &all };
            let reached = |line: &&&Line| Price::ALL.into_iter().any(|price| reach.has(price, &line.pattern));
            for line in lines.iter().filter(reached) {
                let known = self.past.iter_mut().find(|past| past.line.is_same(line));
                if pairs >= MOST_PAST || known.as_ref().is_some_and(|past| past.of.iter().any(|of| of == plan)) {
                    continue;
                }
                pairs = pairs.saturating_add(1);
                match known {
                    Some(past) => past.of.push(plan.to_owned()),
                    None => self.past.push(Past { line: (*line).clone(), of: vec![plan.to_owned()] }),
                }
            }
        }
    }
}

impl Line {
    /// Whether it is for the same names at the same price.
    fn is_same(&self, other: &Self) -> bool {
        self.pattern == other.pattern && self.prices == other.prices
    }

    /// Whether some name matches both.
    fn shares_names_with(&self, other: &Self) -> bool {
        // Of classes and alternatives only the glob itself can tell, and that costs more.
        let among = |name: &Self, of: &Self| {
            overlap(&name.pattern, &of.pattern)
                && (!of.pattern.contains(['[', '{'])
                    || glob(&of.pattern).is_ok_and(|glob| glob.is_match(&name.pattern)))
        };
        match (self.glob, other.glob) {
            (false, true) => among(self, other),
            (true, false) => among(other, self),
            _ => overlap(&self.pattern, &other.pattern),
        }
    }

    /// Which one of two a name falls to that both match: the one of the lower rank.
    fn rank(&self) -> (bool, std::cmp::Reverse<usize>) {
        (self.glob, std::cmp::Reverse(self.pattern.len()))
    }
}

fn line(row: &ModelText, document: &Document) -> Line {
    let named = row.alias.as_ref().and_then(|alias| model_text(document, &alias.value)).unwrap_or(row);
    let currency = named.currency.as_ref().map_or("", |currency| currency.value);
    let with_factor = |mark: &str, rates: &Rates| {
        let mut digest = Sha256::new();
        digest.update(mark);
        rates.each().for_each(|rate| digest.update(rate.to_le_bytes()));
        // Free is free at any hour.
        if !rates.is_free() {
            factor_into(&named.factor, &mut digest);
        }
        head(digest)
    };
    let mut weight = Sha256::new();
    factor_into(&named.factor, &mut weight);
    Line {
        pattern: row.pattern.value.clone(),
        glob: row.glob.is_some(),
        prices: [with_factor("", &named.credits.rates()), with_factor(currency, &named.money.rates()), head(weight)],
        at: row.pattern.at,
    }
}

/// What calls weigh. A last line that says once at any time says what no line says.
fn factor_into(lines: &[FactorLine], digest: &mut Sha256) {
    let lines = match lines.split_last() {
        Some((last, rest)) if last.factor == MICRO && last.is_always() => rest,
        _ => lines,
    };
    for FactorLine { factor, band, dates, apis, above } in lines {
        let (from, until) = band.times.unwrap_or((u16::MAX, u16::MAX));
        digest.update(factor.to_le_bytes());
        digest.update(from.to_le_bytes());
        digest.update(until.to_le_bytes());
        digest.update(band.days.map(u8::from));
        // A zone that nothing is told in says nothing.
        let zone = if band.times.is_some() || band.days.contains(&true) { band.zone.as_str() } else { "" };
        for text in [zone].into_iter().chain(apis.iter().map(|named| named.name())) {
            digest.update(super::length(text.len()));
            digest.update(text);
        }
        digest.update(dates.0.to_le_bytes());
        digest.update(dates.1.to_le_bytes());
        digest.update(above.unwrap_or(0).to_le_bytes());
    }
}

/// The first eight bytes.
fn head(digest: Sha256) -> u64 {
    let whole: [u8; 32] = digest.finalize().into();
    whole.into_iter().take(8).fold(0, |head, byte| head << 8 | u64::from(byte))
}
