//! The `hold` section of a plan's tokens: how much is held of an exchange, and what each of its ends costs.

use super::bundle::{Charge, Cut, FailedTry, HoldRule, Lost, StreamHold};
use super::diagnostic::{Code, Complaint, Faults, shown};
use super::fields::{Fields, choice, form, whole};
use super::tree::{Mark, Node};

const MOST_TOKENS: u64 = 10_000_000;
/// Tokens a second that no provider reaches.
const MOST_PACE: u64 = 1_000_000;
/// The keys that only a hold in slices heeds.
const SLICED: [&str; 3] = ["slice", "grace", "cut"];
/// The ends of an exchange that a plan may price, and the names of their records.
const ENDS: [&str; 5] = ["no_response", "upstream_error", "error_inside", "aborted", "cut_by_upstream"];

/// Reads the section, and where it speaks of tries that fail.
pub(super) fn read(node: &Node, what: &str, faults: &mut Faults) -> (HoldRule, Option<Mark>) {
    let mut hold = HoldRule::default();
    let first = ["unstated_output", "assume_input", "count", "shrink_to", "share", "stream"];
    let known = [&first[..], &SLICED, &ENDS, &["failed_try", "lost"]].concat();
    let Some(fields) = Fields::of(node, what, &known, faults) else { return (hold, None) };
    hold.unstated_output = tokens(&fields, "unstated_output", 1, faults).unwrap_or(hold.unstated_output);
    hold.assume_input = tokens(&fields, "assume_input", 1, faults);
    if let Some(node) = fields.optional("count") {
        let words = [("needed", false), ("always", true)];
        hold.counts_always = choice(node, &fields.path("count"), &words, faults).unwrap_or(false);
    }
    hold.shrink_to = tokens(&fields, "shrink_to", 1, faults).unwrap_or(hold.shrink_to);
    if let Some(node) = fields.optional("share") {
        let words = [("fair", true), ("all", false)];
        hold.shares = choice(node, &fields.path("share"), &words, faults).unwrap_or(true);
    }
    if hold.shrink_to > hold.unstated_output {
        let HoldRule { unstated_output, shrink_to, .. } = hold;
        let message = format!("`shrink_to` is {shrink_to}, but `unstated_output` only {unstated_output}");
        let help = "the floor of clamping cannot lie above what is assumed";
        faults.add(fields.key_at("shrink_to"), Code::Conflict, message, help);
    }
    hold.stream = stream(&fields, hold.shrink_to, faults);
    for (key, charge) in ENDS.iter().zip(hold.charges.all_mut()) {
        if let Some(node) = fields.optional(key) {
            let read = form(node, &fields.path(key), faults, self::charge);
            *charge = read.map_or(*charge, |read| read.value);
        }
    }
    let failed_try = fields.optional("failed_try");
    if let Some(node) = failed_try {
        let words = [("nothing", FailedTry::Nothing), ("input", FailedTry::Input)];
        hold.failed_try = choice(node, &fields.path("failed_try"), &words, faults).unwrap_or(FailedTry::Nothing);
    }
    if let Some(node) = fields.optional("lost") {
        let words = [("charge", Lost::Held), ("delivered", Lost::Delivered)];
        hold.lost = choice(node, &fields.path("lost"), &words, faults).unwrap_or(Lost::Held);
    }
    (hold, failed_try.map(|_| fields.key_at("failed_try")))
}

fn tokens(fields: &Fields<'_>, key: &str, least: u64, faults: &mut Faults) -> Option<u64> {
    fields.optional(key).and_then(|node| whole(node, &fields.path(key), least, MOST_TOKENS, faults))
}

fn stream(fields: &Fields<'_>, shrink_to: u64, faults: &mut Faults) -> StreamHold {
    let words = [("full", false), ("slices", true)];
    let sliced = fields.optional("stream").and_then(|node| choice(node, &fields.path("stream"), &words, faults));
    let (slice, grace) = (tokens(fields, "slice", 1, faults), tokens(fields, "grace", 0, faults));
    let words = [("clean", Cut::Clean), ("stop", Cut::Stop)];
    let cut = fields.optional("cut").and_then(|node| choice(node, &fields.path("cut"), &words, faults));
    if sliced != Some(true) {
        let surplus = SLICED.iter().filter(|key| fields.optional(key).is_some());
        for key in surplus.filter(|_| sliced.is_some() || fields.optional("stream").is_none()) {
            let message = format!("`{key}` takes no effect: the hold covers all of a stream, so that none is cut");
            faults.add(fields.key_at(key), Code::Conflict, message, "add `stream: slices`, or remove it");
        }
        return StreamHold::Full;
    }
    let (slice, grace) = (slice.unwrap_or(512.max(shrink_to)), grace.unwrap_or(64));
    if slice < shrink_to {
        let message = format!("`slice` is {slice}, but `shrink_to` is {shrink_to}");
        let help = "the first slice is held at admission, where no less than `shrink_to` is";
        faults.add(fields.key_at("slice"), Code::Conflict, message, help);
    }
    StreamHold::Slices { slice, grace, cut: cut.unwrap_or(Cut::Clean) }
}

/// `nothing`, `input`, `delivered`, `held`, or `50 tokens a second`.
fn charge(written: &str) -> Result<Charge, Complaint> {
    let pace = || {
        let number = written.strip_suffix(" tokens a second")?.trim().parse().ok()?;
        (1..=MOST_PACE).contains(&number).then_some(Charge::Pace(number))
    };
    match written {
        "nothing" => Some(Charge::Nothing),
        "input" => Some(Charge::Input),
        "delivered" => Some(Charge::Delivered),
        "held" => Some(Charge::Held),
        _ => pace(),
    }
    .ok_or_else(|| {
        let help = "write `nothing`, `input`, `delivered`, `held`, or a pace such as `50 tokens a second`";
        Complaint::new(Code::BadValue, format!("{} says no price", shown(written)), help)
    })
}

#[cfg(test)]
mod tests {
    use super::{Charge, charge};

    #[test]
    fn prices_of_ends() {
        assert_eq!(charge("held").ok(), Some(Charge::Held));
        assert_eq!(charge("50 tokens a second").ok(), Some(Charge::Pace(50)));
        for bad in ["", "free", "0 tokens a second", "-1 tokens a second", "50 tokens", "1e3 tokens a second"] {
            assert!(charge(bad).is_err(), "{bad}");
        }
    }
}
