//! Why a call was refused: one source for the reply, the log, the metrics and `explain`.

use std::fmt;

use crate::now::Now;
use crate::policy::bundle::{PlanQuota, Role};
use crate::policy::unit::Unit;
use crate::quota::{MICRO, Short, Standing, Window};

/// A refusal, before it is put into anybody's wire format.
///
/// What the caller is told and what the operator is told are kept apart: [`outside`](Self::outside) goes over the
/// wire and names nothing the caller does not own or did not send; [`inside`](Self::inside) goes into logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// What sort of refusal it is; decides status, error type and whether a retry is invited.
    pub kind: Kind,
    /// The quota or guard that bound: what `by` in a policy test, the log and the metrics say.
    pub rule: String,
    /// For the caller. One sentence, no final full stop; may carry caller input made safe by [`quoted`].
    pub outside: String,
    /// For the operator.
    pub inside: String,
    /// Milliseconds until the same call may pass, where that can be told.
    pub retry_ms: Option<u64>,
    /// How the quota stands that bound; `None` when a guard did.
    pub limit: Option<Box<LimitView>>,
}

/// What sort of refusal it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// 401: no key, or one that nobody has.
    Unauthenticated,
    /// 400: more than one key, or a header that carries one was sent twice.
    Conflict,
    /// 403: known, but not allowed to do this.
    Forbidden,
    /// 400: what is paid for cannot be read.
    Malformed,
    /// 400: readable, but what it would cost cannot be bounded.
    Unbounded,
    /// 413: more bytes than are read.
    TooLarge,
    /// 400: more input tokens than the plan takes.
    TooLong,
    /// 404: the model is not in the catalogue.
    UnknownModel,
    /// 404: the path is no LLM call, and the policy passes nothing else.
    UnknownPath,
    /// 429: too fast, or others hold what this call needs. Time cures it.
    Rate,
    /// 429: this one call asks for more than a cap ever lets through. A smaller one may pass, the same never.
    Oversized,
    /// 429: the fund is spent. A retry is wasted; only the next window or a top-up cures it.
    Exhausted,
    /// 503: we cannot tell, or have no room, just now.
    Unavailable,
    /// 504: the upstream did not begin its answer in time, or fell silent.
    Late,
    /// 504: the answer takes longer than the plan lets it. The same call would again.
    Overlong,
}

impl Kind {
    /// All kinds, in the order in which they are documented.
    pub const ALL: [Self; 15] = [
        Self::Unauthenticated,
        Self::Conflict,
        Self::Forbidden,
        Self::Malformed,
        Self::Unbounded,
        Self::TooLarge,
        Self::TooLong,
        Self::UnknownModel,
        Self::UnknownPath,
        Self::Rate,
        Self::Oversized,
        Self::Exhausted,
        Self::Unavailable,
        Self::Late,
        Self::Overlong,
    ];

    /// The HTTP status.
    pub fn status(self) -> u16 {
        match self {
            Self::Conflict | Self::Malformed | Self::Unbounded | Self::TooLong => 400,
            Self::Unauthenticated => 401,
            Self::Forbidden => 403,
            Self::UnknownModel | Self::UnknownPath => 404,
            Self::TooLarge => 413,
            Self::Rate | Self::Oversized | Self::Exhausted => 429,
            Self::Unavailable => 503,
            Self::Late | Self::Overlong => 504,
        }
    }

    /// Its name in logs and metric labels.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unauthenticated => "unauthenticated",
            Self::Conflict => "conflict",
            Self::Forbidden => "forbidden",
            Self::Malformed => "malformed",
            Self::Unbounded => "unbounded",
            Self::TooLarge => "too_large",
            Self::TooLong => "too_long",
            Self::UnknownModel => "unknown_model",
            Self::UnknownPath => "unknown_path",
            Self::Rate => "rate",
            Self::Oversized => "oversized",
            Self::Exhausted => "exhausted",
            Self::Unavailable => "unavailable",
            Self::Late => "late",
            Self::Overlong => "overlong",
        }
    }

    /// Whether the same call can pass later without anybody changing anything.
    pub fn passes_later(self) -> bool {
        matches!(self, Self::Rate | Self::Unavailable | Self::Late)
    }
}

/// How the binding quota stands, in whole units, as rate-limit headers need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitView {
    /// The quota's name.
    pub name: String,
    /// Units a window has, rounded down.
    pub limit: u64,
    /// Units that are left, neither used nor held, rounded down.
    pub remaining: u64,
    /// When the window begins anew, Unix milliseconds. `None`: not by time, or the window is closed.
    pub resets_ms: Option<u64>,
    /// What is measured.
    pub unit: Unit,
    /// The window's length in seconds, at least 1. `None`: it counts what runs at this moment.
    pub window_s: Option<u64>,
}

impl LimitView {
    /// The view of `quota` as it stands at `now`.
    ///
    /// `remaining` never exceeds what the ledger could still pay: [`Standing::ledger_left`] counts where the quota
    /// lives on grants, so that a grant of a slice does not look like the whole limit.
    pub fn of(quota: &PlanQuota, standing: &Standing, now: Now) -> Self {
        let left = match standing.ledger_left {
            u64::MAX => standing.free(),
            more => standing.free().saturating_add(more),
        };
        Self {
            name: quota.name.clone(),
            limit: quota.quota.limit / MICRO,
            remaining: left.min(quota.quota.limit) / MICRO,
            resets_ms: (standing.resets_ms > now.wall_ms).then_some(standing.resets_ms),
            unit: quota.unit,
            window_s: window_seconds(&quota.quota.window, standing),
        }
    }

    /// Milliseconds from `now` until the window begins anew.
    pub fn resets_in_ms(&self, now: Now) -> Option<u64> {
        self.resets_ms.map(|at| at.saturating_sub(now.wall_ms))
    }
}

/// The length of a window in whole seconds, rounded up.
fn window_seconds(window: &Window, standing: &Standing) -> Option<u64> {
    let ms = match window {
        Window::FirstUse { length_ms } | Window::Sliding { length_ms } => *length_ms,
        Window::Bucket { period_ms, .. } => *period_ms,
        Window::Concurrent | Window::Lifetime => return None,
        _ => standing.resets_ms.saturating_sub(standing.window),
    };
    Some(ms.div_ceil(1000).max(1))
}

impl Denial {
    /// A refusal by a guard: no quota, no time at which it would pass.
    pub fn guard(kind: Kind, rule: &str, outside: impl Into<String>, inside: impl Into<String>) -> Self {
        Self { kind, rule: rule.into(), outside: outside.into(), inside: inside.into(), retry_ms: None, limit: None }
    }

    /// The model is not in the catalogue.
    pub fn unknown_model(model: &str) -> Self {
        let model = quoted(model);
        Self::guard(
            Kind::UnknownModel,
            "models",
            format!("the model {model} does not exist here; ask your administrator which models do"),
            format!("model {model} matches no line of `models`; add one, or leave it refused"),
        )
    }

    /// The path is no LLM call and the policy says `unknown: {path: deny}`.
    pub fn unknown_path() -> Self {
        let outside = "this path is no LLM call that is metered here; use chat completions or messages";
        Self::guard(Kind::UnknownPath, "unknown.path", outside, "no dialect knows the path; `unknown.path` is deny")
    }

    /// The call asks after work and the policy says `unknown: {after: deny}`.
    pub fn unknown_after() -> Self {
        let outside = "asking after work that goes on is not allowed here";
        Self::guard(Kind::UnknownPath, "unknown.after", outside, "the call asks after work; `unknown.after` is deny")
    }

    /// The body of a known path cannot be read; `why` continues the sentence "the request body ...".
    pub fn malformed(why: &str) -> Self {
        let outside = format!("the request body {why}");
        Self::guard(Kind::Malformed, "unknown.body", outside.clone(), outside)
    }

    /// The request points at something whose cost cannot be read; `what` names it.
    pub fn unbounded(what: &str) -> Self {
        let outside = format!("the cost of {what} cannot be bounded before it is spent, so it is not allowed here");
        let inside = format!("open request: {what}; `hold: {{assume_input: …}}` would give it a ceiling");
        Self::guard(Kind::Unbounded, "open", outside, inside)
    }

    /// The body has more bytes than are read.
    pub fn too_large(limit_bytes: u64) -> Self {
        let outside = format!("the request body is larger than {limit_bytes} bytes; send less");
        Self::guard(Kind::TooLarge, "unknown.body", outside.clone(), outside)
    }

    /// We cannot serve just now; `why` is for the operator.
    pub fn unavailable(rule: &str, why: &str, retry_ms: u64) -> Self {
        let outside = "quotas cannot be checked at this moment; try again shortly";
        Self { retry_ms: Some(retry_ms), ..Self::guard(Kind::Unavailable, rule, outside, why) }
    }

    /// A hold did not fit. `quotas` are those of the call's bill, among them the one that was short; `needed` is what the
    /// smallest useful call would need of that, in micro-units.
    ///
    /// A fund that is spent is *exhausted*. A cap that is spent, and whatever others merely hold, is *rate*; but not
    /// if the call alone asks for more than the cap has, for then no wait helps. A grant that did not come in time is
    /// none of these: the ledger has not said no.
    pub fn short(short: &Short, quotas: &[&PlanQuota], needed: u64, now: Now) -> Self {
        let (subject, id) = match short {
            Short::NeedsGrant { subject, quota, .. }
            | Short::Exhausted { subject, quota, .. }
            | Short::Busy { subject, quota, .. } => (subject, *quota),
        };
        let Some(quota) = quotas.iter().copied().find(|candidate| candidate.quota.id == id) else {
            return Self::unavailable("quota", &format!("`{subject}` is short of a quota that its plan lacks"), 1000);
        };
        match short {
            Short::Exhausted { standing, .. } | Short::Busy { standing, .. }
                if quota.role == Role::Cap && needed > quota.quota.limit =>
            {
                Self::oversized(subject, quota, standing, needed, now)
            }
            Short::NeedsGrant { missing, .. } => Self::unavailable(
                &quota.name,
                &format!("no grant for `{subject}` came in time; {missing} micro-units were missing"),
                1000,
            ),
            Short::Exhausted { standing, .. } => Self::spent(subject, quota, standing, now),
            Short::Busy { standing, retry_ms, .. } => Self::busy(subject, quota, standing, *retry_ms, now),
        }
    }

    /// None of the plan's funds takes a call of this model now (rule `funds`).
    pub fn unfunded(model: &str) -> Self {
        Self {
            kind: Kind::Exhausted,
            rule: "funds".to_owned(),
            outside: "no fund of your plan pays for this model now; top it up, or ask for another model".to_owned(),
            inside: format!("no fund and no pack is good for `{model}` at this moment"),
            retry_ms: None,
            limit: None,
        }
    }

    fn spent(subject: &str, quota: &PlanQuota, standing: &Standing, now: Now) -> Self {
        let view = LimitView::of(quota, standing, now);
        // A pack, a trial or a total ends once and for all.
        let anew = !matches!(quota.quota.window, Window::Term { .. } | Window::Lifetime);
        let (kind, role, retry_ms) = match quota.role {
            Role::Fund => (Kind::Exhausted, "fund", None),
            Role::Cap if anew => (Kind::Rate, "cap", view.resets_in_ms(now)),
            Role::Cap => (Kind::Exhausted, "cap", None),
        };
        let unit = view.unit.words();
        let again = view.resets_in_ms(now).filter(|_| anew);
        let when = match quota.quota.window {
            Window::Sliding { .. } => "there is room for it",
            _ => "it begins anew",
        };
        let again = again.map_or_else(String::new, |ms| format!("; {when} in {}", Span(ms)));
        // Much may be left, and still be too little for a long call.
        let how = if view.remaining == 0 { "is used up" } else { "has too little left" };
        let outside = format!(
            "the {role} `{}` {how}: {} of {} {unit} are left and this call needs more{again}",
            view.name, view.remaining, view.limit
        );
        Self {
            kind,
            rule: view.name.clone(),
            outside,
            inside: stands(subject, role, &view.name, standing),
            retry_ms,
            limit: Some(Box::new(view)),
        }
    }

    fn oversized(subject: &str, quota: &PlanQuota, standing: &Standing, needed: u64, now: Now) -> Self {
        let view = LimitView::of(quota, standing, now);
        let (unit, needed) = (view.unit.words(), needed.div_ceil(MICRO));
        let outside = format!(
            "this call may need {needed} {unit} and `{}` never lets more than {} through; send less, or ask for less output",
            view.name, view.limit
        );
        let inside = stands(subject, "cap", &view.name, standing);
        Self {
            kind: Kind::Oversized,
            rule: view.name.clone(),
            outside,
            inside,
            retry_ms: None,
            limit: Some(Box::new(view)),
        }
    }

    fn busy(subject: &str, quota: &PlanQuota, standing: &Standing, retry_ms: Option<u64>, now: Now) -> Self {
        let view = LimitView::of(quota, standing, now);
        let unit = view.unit.words();
        let outside = match quota.quota.window {
            Window::Concurrent => {
                format!(
                    "`{}` allows {} calls at a time and they are all running; try again shortly",
                    view.name, view.limit
                )
            }
            Window::Bucket { .. } => {
                let rate = view.window_s.unwrap_or(1).saturating_mul(1000);
                format!("`{}` allows {} {unit} per {}; slow down", view.name, view.limit, Span(rate))
            }
            _ => format!(
                "running calls hold what is left of `{}`, {} {unit} of {} are free; try again when they have ended",
                view.name, view.remaining, view.limit
            ),
        };
        let inside = stands(subject, "quota", &view.name, standing);
        Self { kind: Kind::Rate, rule: view.name.clone(), outside, inside, retry_ms, limit: Some(Box::new(view)) }
    }
}

/// How a quota stands, for the operator.
fn stands(subject: &str, role: &str, name: &str, standing: &Standing) -> String {
    let Standing { granted, used, owed, held, ledger_left, .. } = standing;
    let left = match *ledger_left {
        u64::MAX => String::new(),
        left => format!(", ledger has {left} more"),
    };
    let owed = if *owed > 0 { format!(", owed {owed}") } else { String::new() };
    format!("{role} `{name}` of `{subject}`: granted {granted}, used {used}{owed}, held {held} micro-units{left}")
}

/// A span of milliseconds for people, rounded up to whole seconds: `2d4h`, `1h5m`, `6m`, `1m30s`, `2s`.
pub struct Span(pub u64);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.div_ceil(1000);
        let parts =
            [(seconds / 86_400, "d"), (seconds / 3600 % 24, "h"), (seconds / 60 % 60, "m"), (seconds % 60, "s")];
        if seconds == 0 {
            return f.write_str("0s");
        }
        // Two parts are enough: nobody waits two days and three seconds.
        let largest = parts.iter().skip_while(|(count, _)| *count == 0).take(2);
        largest.filter(|(count, _)| *count > 0).try_for_each(|(count, unit)| write!(f, "{count}{unit}"))
    }
}

/// The longest piece of caller input that a message repeats, in characters.
const LONGEST_QUOTE: usize = 80;

/// Caller input in backticks, made safe for a message or a log line: at most 80 characters, and whatever
/// is not printable (or is a backtick) as `?`, so that it can neither forge a log line nor leave its quotes.
pub fn quoted(input: &str) -> String {
    let mut out = String::from("`");
    let mut rest = input.chars();
    let safe = |c: char| if c.is_control() || c == '`' || is_invisible(c) { '?' } else { c };
    out.extend(rest.by_ref().take(LONGEST_QUOTE).map(safe));
    if rest.next().is_some() {
        out.push('…');
    }
    out.push('`');
    out
}

/// Line separators and the marks that reorder or hide text (Unicode UAX #9 and #14).
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::{Denial, Kind, LimitView, Span, quoted};
    use crate::now::Now;
    use crate::policy::bundle::{HoldSize, Per, PlanQuota, Role};
    use crate::policy::unit::Unit;
    use crate::quota::{CalendarPeriod, MICRO, Quota, QuotaId, Short, Standing, Window};

    const HOUR: u64 = 3_600_000;

    fn quota(name: &str, role: Role, unit: Unit, limit: u64, window: Window) -> PlanQuota {
        let id = QuotaId::of("team", name);
        PlanQuota {
            name: name.into(),
            ledger: format!("team/{name}"),
            role,
            unit,
            per: Per::Level(0),
            models: Vec::new(),
            hold: HoldSize::Worst,
            full: Vec::new(),
            rejected: false,
            of: None,
            quota: Quota { id, limit: limit * MICRO, window, granted: true, rollover: 0 },
        }
    }

    fn month() -> Window {
        Window::Calendar { period: CalendarPeriod::Month, zone: "UTC".into() }
    }

    fn standing(limit: u64, used: u64, held: u64) -> Standing {
        let [granted, used, held] = [limit, used, held].map(|units| units * MICRO);
        Standing { window: HOUR, granted, used, held, resets_ms: 6 * HOUR, ..Standing::default() }
    }

    fn at(wall_ms: u64) -> Now {
        Now { wall_ms, mono_ms: 0 }
    }

    fn exhausted(quota: &PlanQuota, standing: Standing) -> Short {
        Short::Exhausted { subject: "seat/alice".into(), quota: quota.quota.id, standing }
    }

    #[test]
    fn a_spent_fund_is_exhausted_and_says_when_it_begins_anew_but_not_to_retry() {
        let fund = quota("seat-5h", Role::Fund, Unit::Credits, 100, Window::FirstUse { length_ms: 5 * HOUR });
        let denial = Denial::short(&exhausted(&fund, standing(100, 99, 0)), &[&fund], 0, at(2 * HOUR));
        assert_eq!((denial.kind, denial.rule.as_str(), denial.retry_ms), (Kind::Exhausted, "seat-5h", None));
        assert_eq!(
            denial.outside,
            "the fund `seat-5h` has too little left: 1 of 100 credits are left and this call needs more; it begins anew in 4h"
        );
        assert!(denial.inside.contains("seat/alice"), "{}", denial.inside);
        assert!(!denial.outside.contains("alice"), "{}", denial.outside);
    }

    #[test]
    fn what_ends_once_and_for_all_does_not_begin_anew() {
        let pack = quota("top-up", Role::Fund, Unit::Credits, 100, Window::Term { from_ms: 0, until_ms: 6 * HOUR });
        let denial = Denial::short(&exhausted(&pack, standing(100, 99, 0)), &[&pack], 0, at(2 * HOUR));
        assert!(denial.outside.ends_with("and this call needs more"), "{}", denial.outside);
        let trial = quota("trial", Role::Cap, Unit::Credits, 100, Window::Term { from_ms: 0, until_ms: 6 * HOUR });
        let denial = Denial::short(&exhausted(&trial, standing(100, 100, 0)), &[&trial], 0, at(2 * HOUR));
        assert_eq!((denial.kind, denial.retry_ms), (Kind::Exhausted, None), "a retry is wasted");
    }

    #[test]
    fn a_spent_cap_is_rate_until_its_window_begins_anew() {
        let cap = quota("calls", Role::Cap, Unit::Requests, 1200, Window::FirstUse { length_ms: 5 * HOUR });
        let denial = Denial::short(&exhausted(&cap, standing(1200, 1200, 0)), &[&cap], 0, at(2 * HOUR));
        assert_eq!((denial.kind, denial.retry_ms), (Kind::Rate, Some(4 * HOUR)));
        let limit = denial.limit.expect("a quota bound");
        assert_eq!((limit.limit, limit.remaining, limit.window_s), (1200, 0, Some(18_000)));
    }

    #[test]
    fn what_a_cap_can_never_let_through_is_no_matter_of_time() {
        let cap =
            quota("pace", Role::Cap, Unit::Tokens, 1000, Window::Bucket { period_ms: 60_000, burst: 1000 * MICRO });
        let ask = |units: u64, cap: &PlanQuota| {
            let standing = standing(1000, 0, 0);
            let short =
                Short::Busy { subject: "seat/alice".into(), quota: cap.quota.id, standing, retry_ms: Some(60_000) };
            Denial::short(&short, &[cap], units * MICRO, at(0))
        };
        let denial = ask(1001, &cap);
        assert_eq!((denial.kind, denial.retry_ms), (Kind::Oversized, None));
        assert!(denial.outside.starts_with("this call may need 1001 tokens and `pace`"), "{}", denial.outside);
        assert_eq!(ask(1000, &cap).kind, Kind::Rate);
        assert_eq!(ask(1001, &PlanQuota { role: Role::Fund, ..cap }).kind, Kind::Rate);
    }

    #[test]
    fn what_others_hold_is_rate_even_for_a_fund() {
        let fund = quota("month", Role::Fund, Unit::Tokens, 100, month());
        let standing = standing(100, 1, 95);
        let short = Short::Busy { subject: "org/acme".into(), quota: fund.quota.id, standing, retry_ms: None };
        let denial = Denial::short(&short, &[&fund], 0, at(2 * HOUR));
        assert_eq!((denial.kind, denial.retry_ms), (Kind::Rate, None));
        assert!(denial.outside.contains("4 tokens of 100 are free"), "{}", denial.outside);
    }

    #[test]
    fn a_late_grant_is_neither_rate_nor_exhausted() {
        let fund = quota("month", Role::Fund, Unit::Tokens, 100, month());
        let short = Short::NeedsGrant { subject: "org/acme".into(), quota: fund.quota.id, missing: 7 };
        let denial = Denial::short(&short, &[&fund], 0, at(0));
        assert_eq!((denial.kind, denial.rule.as_str()), (Kind::Unavailable, "month"));
    }

    #[test]
    fn a_quota_that_the_plan_lacks_is_an_error_and_no_panic() {
        let short = Short::NeedsGrant { subject: "org/acme".into(), quota: QuotaId(7), missing: 7 };
        assert_eq!(Denial::short(&short, &[], 0, at(0)).kind, Kind::Unavailable);
    }

    #[test]
    fn what_the_ledger_could_still_grant_counts_as_remaining() {
        let fund = quota("month", Role::Fund, Unit::Tokens, 1000, month());
        let slice = Standing { ledger_left: 500 * MICRO, ..standing(100, 40, 20) };
        assert_eq!(LimitView::of(&fund, &slice, at(0)).remaining, 540);
        let local = Standing { ledger_left: u64::MAX, ..standing(1000, 40, 20) };
        assert_eq!(LimitView::of(&fund, &local, at(0)).remaining, 940);
    }

    #[test]
    fn what_is_owed_is_not_left_and_the_operator_is_told() {
        let fund = quota("month", Role::Fund, Unit::Tokens, 100, month());
        let owes = Standing { owed: 30 * MICRO, ..standing(100, 60, 0) };
        let denial = Denial::short(&exhausted(&fund, owes), &[&fund], 0, at(0));
        assert!(denial.outside.contains(": 10 of 100 tokens are left"), "{}", denial.outside);
        assert!(denial.inside.contains("used 60000000, owed 30000000, held 0"), "{}", denial.inside);
    }

    #[test]
    fn debt_leaves_nothing_and_does_not_wrap() {
        let fund = quota("month", Role::Fund, Unit::Tokens, 100, month());
        assert_eq!(LimitView::of(&fund, &standing(100, 130, 10), at(0)).remaining, 0);
    }

    #[test]
    fn caller_input_cannot_forge_a_log_line() {
        assert_eq!(quoted("a`\nERROR \u{202e}x"), "`a??ERROR ?x`");
        assert_eq!(quoted(&"x".repeat(81)), format!("`{}…`", "x".repeat(80)));
        assert_eq!(quoted("通义千问"), "`通义千问`");
    }

    #[test]
    fn spans_read_like_speech() {
        let read = |ms| Span(ms).to_string();
        assert_eq!([0, 1, 1000, 90_000, 360_000, 3_900_000].map(read), ["0s", "1s", "1s", "1m30s", "6m", "1h5m"]);
        assert_eq!([86_400_000, 187_203_000].map(read), ["1d", "2d4h"]);
    }

    #[test]
    fn names_and_kinds_are_one_to_one() {
        let mut names: Vec<_> = Kind::ALL.iter().map(|kind| kind.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Kind::ALL.len());
    }
}
