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

    /// What was kept, by this build of the filter or another: an update of the filter itself finds what the one before it
    /// kept. Fields that are new are put at the end. `None`: it cannot be read.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let tree = rmpv::decode::read_value_with_max_depth(&mut &*bytes, DEEPEST).ok()?;
        let (plans, gone, lines, past, bundle) = match tree.as_array()?.as_slice() {
            // Before lines that are past were remembered.
            [plans, gone, lines, bundle] => (plans, gone, lines, Vec::new(), bundle),
            [plans, gone, lines, past, bundle, ..] => (plans, gone, lines, list(past, read_past)?, bundle),
            _ => return None,
        };
        Some(Self {
            plans: list(plans, read_chartered)?,
            gone: list(gone, read_gone)?,
            tariff: Tariff { lines: list(lines, read_line)?, past },
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
    // Once there was a third field: what stood for its prices.
    let [label, sealed, ..] = value.as_array()?.as_slice() else { return None };
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
    use std::path::PathBuf;

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

    fn golden(name: &str) -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/cells").join(name)
    }

    /// What is kept is read by the build after this one, so a change of it needs a golden file more.
    #[test]
    fn what_is_kept_stays_as_it_is() {
        let bytes = charter().to_bytes();
        let hex: String = bytes
            .chunks(32)
            .map(|line| line.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "\n")
            .collect();
        if std::env::var_os("FAREBOX_BLESS").is_some() {
            std::fs::write(golden("charter.hex"), &hex).unwrap();
        }
        assert_eq!(std::fs::read_to_string(golden("charter.hex")).unwrap_or_default(), hex);
    }

    #[test]
    fn what_builds_kept_that_remembered_no_lines_is_read() {
        let hex = std::fs::read_to_string(golden("charter-before-past.hex")).unwrap();
        let digits: Vec<char> = hex.chars().filter(char::is_ascii_hexdigit).collect();
        let byte = |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap();
        let old: Vec<u8> = digits.chunks(2).map(byte).collect();
        let mut expected = charter();
        expected.tariff.past.clear();
        assert_eq!(Charter::from_bytes(&old), Some(expected));
    }

    #[test]
    fn what_newer_builds_keep_is_read_as_far_as_it_is_known() {
        let mut tree = rmpv::decode::read_value(&mut charter().to_bytes().as_slice()).expect("it is MessagePack");
        if let rmpv::Value::Array(fields) = &mut tree {
            fields.push(rmpv::Value::from("new"));
        }
        let mut bytes = Vec::new();
        rmpv::encode::write_value(&mut bytes, &tree).expect("memory");
        assert_eq!(Charter::from_bytes(&bytes), Some(charter()));
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
