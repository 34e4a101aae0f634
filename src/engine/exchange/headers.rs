//! What the headers of a request decide: who calls, and all guards that need no body.

use std::rc::Rc;

use super::{Exchange, JSON, TIER_HEADER, Turn, no_plan};
use crate::engine::audit::Trail;
use crate::engine::bill::session_account;
use crate::engine::denial::{Denial, Kind};
use crate::engine::effect::{Effect, Flow};
use crate::engine::event::{Header, Vouched};
use crate::engine::guard::{self, Head};
use crate::engine::identity::{self, Caller};
use crate::engine::source;
use crate::meter::dialect::{self, Api, Dialect, Route};
use crate::now::Now;
use crate::policy::bundle::{After, Bundle, HostMode, OnUnknown};

impl Exchange {
    /// Everything that can be told from the headers alone. A refusal here never reads the body.
    pub(super) fn judge_headers(
        &mut self,
        headers: &[Header],
        peer: Option<std::net::IpAddr>,
        vouched: &[Vouched],
        now: Now,
        effects: &mut Vec<Effect>,
    ) -> Result<usize, Turn> {
        let bundle = Rc::clone(&self.bundle);
        for name in identity::credential_headers(headers, &bundle) {
            effects.push(Effect::RemoveRequestHeader(name));
        }
        let field = |name: &str| headers.iter().find(|(n, _)| n == name.as_bytes()).map(|(_, value)| value.as_slice());
        let (method, path) = (field(":method").unwrap_or_default(), field(":path").unwrap_or_default());
        self.route = Route::of(method, path);
        let after = dialect::asks_after(method, path).filter(|_| self.route.is_none());
        let asked = after.filter(|after| bundle.unknown.after.takes(*after));
        let may_not = bundle.unknown.after == After::Deny && after.is_some();
        if self.route.is_none() && asked.is_none() && !may_not && !dialect::suspicious(path) {
            self.route = bundle.counted_as.as_deref().map(Route::of_bytes);
        }
        if let Some(route) = &mut self.route {
            headers.iter().for_each(|(name, value)| route.header(name, value));
        }
        self.api = self.route.as_ref().map(|route| Api::of(route.dialect, path));
        self.seconds = self.dialect().is_some_and(|dialect| dialect.tells_seconds(path));
        let vouched = identity::heard(&bundle, vouched, headers, peer);
        let seat = match identity::identify(headers, &vouched, &bundle) {
            Ok(Caller { seat, passed_over }) => {
                unread_identities("pass", passed_over, effects);
                seat
            }
            Err(denial) => {
                let unread = vouched.iter().filter(|said| matches!(said, Vouched::Unreadable)).count();
                unread_identities("deny", unread as u64, effects);
                return Err(denial.into());
            }
        };
        self.seat = Some(seat);
        let who = bundle.seats.get(seat).ok_or_else(no_plan)?;
        let plan = guard::plan(&bundle, who)?;
        guard::subscription(who, now)?;
        let named = bundle.session.iter().find_map(|name| field(name)).filter(|named| !named.is_empty());
        self.session = session_account(named);
        self.named = named.map(<[u8]>::to_vec);
        let plain = path.split(|byte| *byte == b'?').next().unwrap_or_default();
        let asks_balance =
            method == b"GET" && bundle.balance.as_ref().is_some_and(|balance| balance.as_bytes() == plain);
        let address = source::client_address(peer, headers, bundle.trusted_proxies);
        let key = identity::sent_key(headers, &bundle);
        let (dialect, asks_after) = (self.dialect(), asked.map_or(&[][..], |asked| asked.of));
        let head = Head { plan, now, headers, key, method, path, address, dialect, asks_after, asks_balance };
        guard::head(&head, &mut self.trace, effects)?;
        if asks_balance {
            return Err(Turn::Balance(seat));
        }
        self.trail = Trail::of(plan, headers, path, address).map(Box::new);
        for name in identity::names(headers, |name| plan.security.strips(name)) {
            effects.push(Effect::RemoveRequestHeader(name));
        }
        if let Some(tier) = &plan.connectivity.tier {
            effects.push(Effect::SetRequestHeader(TIER_HEADER.to_owned(), tier.clone()));
        }
        // What we must read must not be compressed, and some clients ask for it by habit. What is not metered is read by
        // screens alone.
        let mut packed = field("accept-encoding").map(|_| Effect::RemoveRequestHeader("accept-encoding".to_owned()));
        if plan.security.output.is_some() {
            effects.extend(packed.take());
        }
        let dialect = match self.dialect() {
            Some(dialect) => dialect,
            None if dialect::suspicious(path) => return Err(odd_path().into()),
            // What it asks after was paid for when it was asked for.
            None if asked.is_some() => return Err(Turn::Pass),
            None if may_not => return Err(Denial::unknown_after().into()),
            None if bundle.unknown.path == OnUnknown::Pass => return Err(Turn::Pass),
            None => return Err(Denial::unknown_path().into()),
        };
        let bytes = dialect == Dialect::Bytes;
        if field("upgrade").is_some() || bytes && method == b"CONNECT" {
            return Err(unreadable(&bundle, "an upgrade request"));
        }
        // Bytes are bytes, but for who looks for something in them.
        let looks = !bytes || plan.security.input.is_some();
        if looks && field("content-encoding").is_some_and(|value| !value.eq_ignore_ascii_case(b"identity")) {
            return Err(unreadable(&bundle, "a compressed request body"));
        }
        effects.extend(packed);
        // It is read here as JSON in UTF-8. Said to be something else (a form, another charset), an upstream might read
        // another call in the same bytes.
        // A form with files is read as a form.
        let form = |value: &&[u8]| bytes || dialect.takes_forms() && is_form(value);
        self.form = field("content-type").filter(form).map(<[u8]>::to_vec);
        if bytes {
            effects.push(Effect::Count { metric: "counted_by_bytes_total", labels: vec![], by: 1 });
        } else if self.form.is_none() && field("content-type").is_none_or(|value| value != JSON.as_bytes()) {
            effects.push(Effect::SetRequestHeader("content-type".to_owned(), JSON.to_owned()));
        }
        // Of what nobody knows it is not known either whether it may be done twice.
        if let Some(retry) = plan.connectivity.retry.as_ref().filter(|_| !bytes) {
            effects.push(Effect::Retry(retry.clone()));
        }
        effects.push(Effect::Note("seat", who.name.clone()));
        effects.push(Effect::Note("org", who.org.clone()));
        effects.push(Effect::Note("dialect", dialect.name().to_owned()));
        Ok(seat)
    }

    /// The trailers of the request that may not leave, by name: what would be taken out of its headers.
    pub fn unwanted(&self, trailers: &[Header]) -> Vec<String> {
        let mut names = identity::credential_headers(trailers, &self.bundle);
        let plan = self.seat.and_then(|seat| self.bundle.plan_for(self.bundle.seats.get(seat)?));
        if let Some(plan) = plan {
            names.extend(identity::names(trailers, |name| plan.security.strips(name)));
        }
        names
    }

    pub(super) fn await_body(&self, effects: &mut Vec<Effect>) -> Flow {
        if self.bundle.headers == HostMode::First {
            // The headers leave now, and filters behind us decide now: this says *seen*, not *admitted*.
            effects.push(Effect::Note("admitted", "seen".to_owned()));
        }
        Flow::Hold
    }
}

/// Counts what was said of a caller and could not be read.
fn unread_identities(action: &str, by: u64, effects: &mut Vec<Effect>) {
    if by > 0 {
        let labels = vec![("by", "identity".to_owned()), ("action", action.to_owned())];
        effects.push(Effect::Count { metric: "unread_total", labels, by });
    }
}

fn is_form(content_type: &[u8]) -> bool {
    content_type.get(..19).is_some_and(|kind| kind.eq_ignore_ascii_case(b"multipart/form-data"))
}

fn odd_path() -> Denial {
    let outside = "the request path is spelled in an unusual way; send it plainly";
    Denial::guard(Kind::Malformed, "path", outside, "the path would normalise to a metered one")
}

fn unreadable(bundle: &Bundle, what: &str) -> Turn {
    match bundle.unknown.body {
        OnUnknown::Pass => Turn::Pass,
        OnUnknown::Deny => Denial::malformed(&format!("cannot be metered: {what}")).into(),
    }
}
