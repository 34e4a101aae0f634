//! How a charter is kept in shared data: lists in lists, in MessagePack, each field at its place.
//!
//! Read and written by hand: code that is derived for so many small types is a hundredth of the whole filter, for what is
//! read once an update.

use rmpv::Value;

use super::tariff::{Line, Past, Reach, Tariff};
use super::{Charter, Chartered, Gone, Kept};
use crate::policy::tree::Mark;

/// How deep what is kept may nest.
const DEEPEST: usize = 32;

impl Charter {
    /// What it is kept as.
    pub fn to_bytes(&self) -> Vec<u8> {
        let tree = Value::Array(vec![
            all(&self.plans, chartered),
            all(&self.gone, gone),
            all(&self.tariff.lines, line),
            all(&self.tariff.past, past),
            Value::from(self.bundle.as_str()),
        ]);
        let mut bytes = Vec::new();
        // Writing into memory has no way to fail; what is not there would be read as nothing.
        let _ = rmpv::encode::write_value(&mut bytes, &tree);
        bytes
    }

    /// What was kept; `None` where it cannot be read, as after a change of this format.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let tree = rmpv::decode::read_value_with_max_depth(&mut &*bytes, DEEPEST).ok()?;
        let [plans, gone, lines, past, bundle] = fields(&tree)?;
        Some(Self {
            plans: list(plans, read_chartered)?,
            gone: list(gone, read_gone)?,
            tariff: Tariff { lines: list(lines, read_line)?, past: list(past, read_past)? },
            bundle: text(bundle)?,
            named_at: Mark::default(),
            at: Mark::default(),
            dropped: Vec::new(),
        })
    }
}

fn chartered(plan: &Chartered) -> Value {
    let (zones, reach) = &plan.outside;
    Value::Array(vec![
        Value::from(plan.label.as_str()),
        Value::from(plan.first_name.as_str()),
        all(&plan.quotas, kept),
        maybe(plan.sealed.as_ref(), |seal| Value::from(&seal[..])),
        texts(zones),
        maybe(reach.as_ref(), reached),
    ])
}

fn read_chartered(value: &Value) -> Option<Chartered> {
    let [label, first_name, quotas, sealed, zones, reach] = fields(value)?;
    Some(Chartered {
        label: text(label)?,
        first_name: text(first_name)?,
        quotas: list(quotas, read_kept)?,
        sealed: read_maybe(sealed, seal)?,
        outside: (list(zones, text)?, read_maybe(reach, read_reach)?),
        at: Mark::default(),
    })
}

fn kept(quota: &Kept) -> Value {
    Value::Array(vec![Value::from(quota.name.as_str()), texts(&quota.terms)])
}

fn read_kept(value: &Value) -> Option<Kept> {
    let [name, terms] = fields(value)?;
    Some(Kept { name: text(name)?, terms: list(terms, text)?.try_into().ok()?, at: Mark::default() })
}

fn gone(gone: &Gone) -> Value {
    Value::Array(vec![Value::from(gone.label.as_str()), Value::from(&gone.sealed[..])])
}

fn read_gone(value: &Value) -> Option<Gone> {
    let [label, sealed] = fields(value)?;
    Some(Gone { label: text(label)?, sealed: seal(sealed)? })
}

fn line(line: &Line) -> Value {
    let prices = all(&line.prices, |price| Value::from(*price));
    Value::Array(vec![Value::from(line.pattern.as_str()), Value::from(line.glob), prices])
}

fn read_line(value: &Value) -> Option<Line> {
    let [pattern, glob, prices] = fields(value)?;
    let prices = list(prices, Value::as_u64)?.try_into().ok()?;
    Some(Line { pattern: text(pattern)?, glob: glob.as_bool()?, prices, at: Mark::default() })
}

fn past(past: &Past) -> Value {
    Value::Array(vec![line(&past.line), texts(&past.of)])
}

fn read_past(value: &Value) -> Option<Past> {
    let [line, of] = fields(value)?;
    Some(Past { line: read_line(line)?, of: list(of, text)? })
}

fn reached(reach: &Reach) -> Value {
    Value::Array(vec![all(&reach.by, |models| maybe(models.as_deref(), texts)), texts(&reach.models)])
}

fn read_reach(value: &Value) -> Option<Reach> {
    let [by, models] = fields(value)?;
    let by = list(by, |models| read_maybe(models, |models| list(models, text)))?.try_into().ok()?;
    Some(Reach { by, models: list(models, text)? })
}

fn all<T>(list: &[T], each: impl Fn(&T) -> Value) -> Value {
    Value::Array(list.iter().map(each).collect())
}

fn texts(list: &[String]) -> Value {
    all(list, |text| Value::from(text.as_str()))
}

fn maybe<T: ?Sized>(value: Option<&T>, of: impl Fn(&T) -> Value) -> Value {
    value.map_or(Value::Nil, of)
}

/// The fields of a list that has just so many.
fn fields<const N: usize>(value: &Value) -> Option<&[Value; N]> {
    value.as_array()?.as_slice().try_into().ok()
}

fn list<T>(value: &Value, each: impl Fn(&Value) -> Option<T>) -> Option<Vec<T>> {
    value.as_array()?.iter().map(each).collect()
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

fn seal(value: &Value) -> Option<[u8; 16]> {
    value.as_slice()?.try_into().ok()
}

/// Nothing, or what is there: `None` where that cannot be read.
fn read_maybe<T>(value: &Value, of: impl Fn(&Value) -> Option<T>) -> Option<Option<T>> {
    if value.is_nil() { Some(None) } else { of(value).map(Some) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop, prop_assert_eq, proptest};

    use super::{Charter, Chartered, Gone, Kept, Line, Mark, Past, Reach, Tariff};

    fn charter() -> Charter {
        let kept = Kept {
            name: "month".to_owned(),
            terms: ["tokens", "seat", "month"].map(str::to_owned),
            at: Mark::default(),
        };
        let reach = Reach {
            by: [None, Some(Vec::new()), Some(vec!["a*".to_owned()])],
            models: vec!["a*".to_owned(), "b".to_owned()],
        };
        let plan = |label: &str, sealed, outside| Chartered {
            label: label.to_owned(),
            first_name: "team".to_owned(),
            quotas: vec![kept.clone()],
            sealed,
            outside,
            at: Mark::default(),
        };
        let line = Line { pattern: "a*".to_owned(), glob: true, prices: [0, 1, u64::MAX], at: Mark::default() };
        Charter {
            plans: vec![
                plan("team", None, Default::default()),
                plan("team@1", Some([7; 16]), (vec!["UTC".to_owned()], Some(reach))),
            ],
            gone: vec![
                Gone { label: "team@0".to_owned(), sealed: [0; 16] },
                Gone { label: "team@00".to_owned(), sealed: [255; 16] },
            ],
            tariff: Tariff {
                past: vec![Past { line: line.clone(), of: vec!["team@1".to_owned()] }],
                lines: vec![line],
            },
            bundle: "b".to_owned(),
            ..Charter::default()
        }
    }

    #[test]
    fn what_is_kept_is_read_again() {
        for charter in [charter(), Charter::default()] {
            assert_eq!(Charter::from_bytes(&charter.to_bytes()), Some(charter));
        }
    }

    proptest! {
        #[test]
        fn other_bytes_are_none_or_a_charter(at in any::<prop::sample::Index>(), by: u8, cut in any::<prop::sample::Index>()) {
            let mut bytes = charter().to_bytes();
            let place = at.index(bytes.len());
            bytes[place] ^= by;
            bytes.truncate(cut.index(bytes.len() + 1));
            if let Some(read) = Charter::from_bytes(&bytes) {
                prop_assert_eq!(Charter::from_bytes(&read.to_bytes()), Some(read));
            }
        }
    }
}
