//! Amounts, prices, durations and sizes, as people write them, read exactly.
//!
//! Nothing is rounded and nothing has two readings: `200k` is refused, because it may mean 200,000 or 204,800.

use super::diagnostic::{Code, Complaint, meant, shown};
use super::unit::{Unit, currency};
use crate::quota::MICRO;

type Parsed<T> = Result<T, Complaint>;

/// The largest amount, in whole units: a trillion. Sums of many stay far from the end of `u64`.
const LARGEST_AMOUNT: u64 = 1_000_000_000_000;

/// The largest price, in micro-units for a million of a thing.
const LARGEST_RATE: u64 = MICRO * MICRO * 100_000;

const AMOUNT_HELP: &str =
    "write a plain number and a unit, for example `20000 tokens`, `1.5m output tokens` or `0.7 credits`";

/// `20000 tokens`: micro-units and their unit.
pub(super) fn amount(text: &str) -> Parsed<(u64, Unit)> {
    let Some((number, words)) = text.trim().split_once(char::is_whitespace) else {
        let message = format!("the amount {} has no unit", shown(text));
        return Err(Complaint::new(Code::UnknownUnit, message, AMOUNT_HELP));
    };
    let unit = unit(words)?;
    let micro = scaled(number)?;
    if !unit.has_fractions() && micro % MICRO != 0 {
        let message = format!("{} is no whole number of {}", shown(number), unit.words());
        return Err(Complaint::new(
            Code::BadValue,
            message,
            "only credits, money, prompts and what is weighted may have a fraction",
        ));
    }
    Ok((micro, unit))
}

/// A unit by its words: `fresh tokens`, `requests`, `CNY`.
pub(super) fn unit(written: &str) -> Parsed<Unit> {
    let words: Vec<&str> = written.split_whitespace().collect();
    let words = words.join(" ");
    Unit::from_words(&words).ok_or_else(|| {
        if currency(&words.to_uppercase()).is_some() {
            let help = format!("write {}", shown(&words.to_uppercase()));
            return Complaint::new(Code::UnknownUnit, format!("unknown unit {}", shown(written)), help);
        }
        let help = meant(&words, Unit::all_words(), "units");
        Complaint::new(Code::UnknownUnit, format!("unknown unit {}", shown(written)), help)
    })
}

/// A number with up to six places, in micro-units.
pub(super) fn number(written: &str) -> Parsed<u64> {
    let help = "write a plain number with up to six places, for example `0.8`";
    decimal(written, 6, 1).map_err(|fault| fault.about("number", written, help.to_owned()))
}

/// A number with an optional `m` (million) or `b` (billion), in micro-units.
fn scaled(written: &str) -> Parsed<u64> {
    let (number, factor) = match (written.strip_suffix('m'), written.strip_suffix('b')) {
        (Some(number), _) => (number, 1_000_000),
        (_, Some(number)) => (number, 1_000_000_000),
        _ => (written, 1),
    };
    let in_range = |micro: u64| if micro <= LARGEST_AMOUNT * MICRO { Ok(micro) } else { Err(Fault::TooLarge) };
    decimal(number, 6, factor).and_then(in_range).map_err(|fault| {
        let help = match fault {
            Fault::TooLarge => format!("the largest is `{}b`", LARGEST_AMOUNT / 1_000_000_000),
            _ => amount_help(written),
        };
        fault.about("amount", written, help)
    })
}

fn amount_help(written: &str) -> String {
    let digits = written.trim_end_matches(['k', 'K']);
    match digits.parse::<u32>() {
        Ok(thousands) if digits.len() < written.len() => {
            format!("`k` has two readings; write {} in full", u64::from(thousands) * 1000)
        }
        _ if written.ends_with(['M', 'B']) => format!("write {}", shown(&written.to_lowercase())),
        _ if written.contains([',', '_', '\'']) => {
            "write the number without separators, for example `200000`".to_owned()
        }
        _ => AMOUNT_HELP.to_owned(),
    }
}

/// How many of a thing a price is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PricedPer {
    One,
    Thousand,
    Million,
}

/// A price for so many of a thing, as micro-units for a million of them: exact up to twelve, nine or six places.
pub(super) fn price(written: &str, per: PricedPer) -> Parsed<u64> {
    let (places, example) = match per {
        PricedPer::One => (12, "0.25"),
        PricedPer::Thousand => (9, "0.25"),
        PricedPer::Million => (6, "2.5"),
    };
    let help = format!("write a plain number with up to {places} places, for example `{example}`");
    let in_range = |rate: u64| if rate <= LARGEST_RATE { Ok(rate) } else { Err(Fault::TooLarge) };
    decimal(written, places, 1).and_then(in_range).map_err(|fault| {
        let help = match fault {
            Fault::TooLarge => format!("the largest is `{}`", LARGEST_RATE / 10_u64.pow(places)),
            _ => help,
        };
        fault.about("price", written, help)
    })
}

/// `14:00-18:00`: minutes of the day. The end may be 24:00, and may lie before the beginning.
pub(super) fn times(written: &str) -> Parsed<(u16, u16)> {
    let minute = |text: &str| {
        let (hour, minute) = text.trim().split_once(':')?;
        let digits = |part: &str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(hour) || !digits(minute) {
            return None;
        }
        let (hour, minute): (u16, u16) = (hour.parse().ok()?, minute.parse().ok()?);
        (minute < 60 && (hour < 24 || hour == 24 && minute == 0)).then_some(hour * 60 + minute)
    };
    let read = written.split_once('-').and_then(|(from, until)| Some((minute(from)?, minute(until)?)));
    read.filter(|(from, until)| from != until && *from < 24 * 60).ok_or_else(|| {
        let message = format!("{} is no band of hours", shown(written));
        Complaint::new(Code::BadValue, message, "write for example `14:00-18:00`, or `22:00-06:00` over midnight")
    })
}

/// A day in a zone, `2026-11-03`, at its first moment, or a moment with its offset (RFC 3339): Unix milliseconds.
pub(super) fn moment(written: &str, zone: &str) -> Parsed<u64> {
    let day = || {
        let date: jiff::civil::Date = written.parse().ok()?;
        let zone = crate::zone::get(zone)?;
        Some(date.to_zoned_datetime(zone).ok()?.timestamp())
    };
    let moment = || written.parse::<jiff::Timestamp>().ok();
    let at = if written.len() == "2026-11-03".len() { day() } else { moment() };
    at.and_then(|at| u64::try_from(at.as_millisecond()).ok()).ok_or_else(|| {
        let message = format!("{} is no day and no moment since 1970", shown(written));
        Complaint::new(
            Code::BadValue,
            message,
            "write a day such as `2026-11-03`, or a moment such as `2026-11-03T10:00:00+08:00`",
        )
    })
}

/// A size above nothing.
pub(super) fn some_bytes(written: &str) -> Parsed<u64> {
    match size(written)? {
        0 => Err(Complaint::new(Code::BadValue, "the largest size must be above zero", "write for example `1 MiB`")),
        bytes => Ok(bytes),
    }
}

/// Why a number is none.
enum Fault {
    Form,
    Places(u32),
    TooLarge,
}

impl Fault {
    fn about(&self, what: &str, written: &str, help: String) -> Complaint {
        let written = shown(written);
        let message = match self {
            Self::Form => format!("the {what} {written} is no number"),
            Self::Places(most) => format!("the {what} {written} has more than {most} places"),
            Self::TooLarge => format!("the {what} {written} is too large"),
        };
        Complaint::new(Code::BadValue, message, help)
    }
}

/// `digits[.digits]` times `factor`, in units of the last of `places` places. Exact, or a fault.
fn decimal(written: &str, places: u32, factor: u64) -> Result<u64, Fault> {
    let (whole, fraction) = written.split_once('.').unwrap_or((written, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return Err(Fault::Form);
    }
    let fraction = fraction.trim_end_matches('0');
    let used = u32::try_from(fraction.len()).unwrap_or(u32::MAX);
    let missing = places.checked_sub(used).ok_or(Fault::Places(places))?;
    let number = |part: &str| match part {
        "" => Some(0),
        part => part.parse::<u64>().ok(),
    };
    let exact = || {
        let whole = number(whole)?.checked_mul(10_u64.checked_pow(places)?)?;
        let fraction = number(fraction)?.checked_mul(10_u64.checked_pow(missing)?)?;
        whole.checked_add(fraction)?.checked_mul(factor)
    };
    exact().ok_or(Fault::TooLarge)
}

const DURATIONS: [(&str, u64); 5] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// `250ms`, `1s`, `5m`, `5h`, `7d`: milliseconds, at most 366 days. A day is 24 hours.
pub(super) fn duration(written: &str) -> Parsed<u64> {
    let help = "write a whole number and `ms`, `s`, `m`, `h` or `d`, for example `5h`";
    let complain =
        |message: &str| Complaint::new(Code::BadValue, format!("the duration {} {message}", shown(written)), help);
    let split = written.find(|c: char| !c.is_ascii_digit()).unwrap_or(written.len());
    let (number, unit) = written.split_at_checked(split).unwrap_or((written, ""));
    let Some((_, factor)) = DURATIONS.iter().find(|(name, _)| *name == unit) else {
        return Err(complain("has no unit of time that is known"));
    };
    let ms = number.parse::<u64>().ok().and_then(|number| number.checked_mul(*factor));
    match ms {
        None if number.is_empty() => Err(complain("has no number")),
        Some(ms) if ms <= 366 * 86_400_000 => Ok(ms),
        _ => Err(complain("is longer than 366 days")),
    }
}

/// A duration that is no shorter and no longer than something can be. `help`: how to write one.
pub(super) fn duration_within(written: &str, least_ms: u64, most_ms: u64, help: &str) -> Parsed<u64> {
    match duration(written)? {
        ms if (least_ms..=most_ms).contains(&ms) => Ok(ms),
        _ => {
            let (least, most) = (duration_text(least_ms), duration_text(most_ms));
            let message = format!("the time {} is not from {least} to {most}", shown(written));
            Err(Complaint::new(Code::BadValue, message, help))
        }
    }
}

/// Milliseconds as the policy writes them: the largest unit that fits.
pub(super) fn duration_text(ms: u64) -> String {
    let fits = DURATIONS.iter().rev().find(|(_, factor)| ms.is_multiple_of(*factor) && ms >= *factor);
    fits.map_or(format!("{ms}ms"), |(name, factor)| format!("{}{name}", ms / factor))
}

/// `64 MiB`, `512 KiB`: bytes.
pub(super) fn size(written: &str) -> Parsed<u64> {
    let help = "write a whole number and `KiB` or `MiB`, for example `64 MiB`";
    let complain = || Complaint::new(Code::BadValue, format!("{} is no size", shown(written)), help);
    let (number, unit) = written.trim().split_once(char::is_whitespace).ok_or_else(complain)?;
    let factor: u64 = match unit.trim() {
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        _ => return Err(complain()),
    };
    number.parse::<u32>().ok().and_then(|number| u64::from(number).checked_mul(factor)).ok_or_else(complain)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn said(complaint: Parsed<(u64, Unit)>) -> String {
        let Complaint { code, message, help } = complaint.unwrap_err();
        format!("{}: {message}; {help}", code.name())
    }

    #[test]
    fn amounts_are_exact() {
        assert_eq!(amount("20000 tokens"), Ok((20_000 * MICRO, Unit::Tokens)));
        assert_eq!(amount("1.5m output tokens"), Ok((1_500_000 * MICRO, Unit::OutputTokens)));
        assert_eq!(amount("82b credits"), Ok((82_000_000_000 * MICRO, Unit::Credits)));
        assert_eq!(amount("0.000001 credits"), Ok((1, Unit::Credits)));
        assert_eq!(amount("1 request"), Ok((MICRO, Unit::Requests)));
        assert_eq!(amount("7  input   tokens"), Ok((7 * MICRO, Unit::InputTokens)));
        assert_eq!(amount("0.0000015m tokens").unwrap_err().code, Code::BadValue);
    }

    #[test]
    fn an_amount_with_two_readings_is_refused_with_the_one_reading() {
        insta::assert_snapshot!(said(amount("200k tokens")), @"bad-value: the amount `200k` is no number; `k` has two readings; write 200000 in full");
        insta::assert_snapshot!(said(amount("2M tokens")), @"bad-value: the amount `2M` is no number; write `2m`");
        insta::assert_snapshot!(said(amount("200,000 tokens")), @"bad-value: the amount `200,000` is no number; write the number without separators, for example `200000`");
        insta::assert_snapshot!(said(amount("20000 toknes")), @"unknown-unit: unknown unit `toknes`; did you mean `tokens`?");
        insta::assert_snapshot!(said(amount("0.5 tokens")), @"bad-value: `0.5` is no whole number of tokens; only credits, money, prompts and what is weighted may have a fraction");
        insta::assert_snapshot!(said(amount("0.0000001 credits")), @"bad-value: the amount `0.0000001` has more than 6 places; write a plain number and a unit, for example `20000 tokens`, `1.5m output tokens` or `0.7 credits`");
        insta::assert_snapshot!(said(amount("99999b tokens")), @"bad-value: the amount `99999b` is too large; the largest is `1000b`");
    }

    #[test]
    fn prices_are_micro_credits_per_million_tokens() {
        assert_eq!(price("1", PricedPer::Thousand), Ok(1_000_000_000));
        assert_eq!(price("0.1", PricedPer::Thousand), Ok(100_000_000));
        assert_eq!(price("0.000000001", PricedPer::Thousand), Ok(1));
        assert!(price("0.0000000001", PricedPer::Thousand).is_err());
        assert!(
            ["", ".", "1.", ".5", "-1", "+1", "1e3", "0x1", "1 ", "١"].iter().all(|bad| price(
                bad,
                PricedPer::Thousand
            )
            .is_err())
        );
    }

    #[test]
    fn durations_and_sizes() {
        assert_eq!(duration("250ms"), Ok(250));
        assert_eq!(duration("5h"), Ok(18_000_000));
        assert_eq!(duration("366d"), Ok(366 * 86_400_000));
        assert!(
            ["", "5", "h", "5 h", "5H", "1h30m", "-1s", "367d", "99999999999999999999d"]
                .iter()
                .all(|bad| duration(bad).is_err())
        );
        assert_eq!(size("64 MiB"), Ok(64 << 20));
        assert!(["64", "64MB", "64 MB", "-1 MiB", "1.5 MiB"].iter().all(|bad| size(bad).is_err()));
        assert_eq!(duration_text(18_000_000), "5h");
        assert_eq!(duration_text(1500), "1500ms");
        assert_eq!(duration_text(0), "0ms");
    }

    proptest! {
        /// What is written with up to six places comes back to the micro-unit.
        #[test]
        fn decimals_come_back(whole in 0..1_000_000_u64, micro in 0..MICRO) {
            let (read, unit) = amount(&format!("{whole}.{micro:06} credits")).unwrap();
            prop_assert_eq!((read, unit), (whole * MICRO + micro, Unit::Credits));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,24}") {
            let _ = (amount(&text), price(&text, PricedPer::One), duration(&text), size(&text));
        }
    }
}
