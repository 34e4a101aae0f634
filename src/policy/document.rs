//! The policy file as written: every section read for itself, nothing resolved.

use super::assign::{self, Assign};
use super::bundle::{After, Collector, HostMode, Mode, OnUnknown, Unknown};
use super::diagnostic::{Code, Complaint, Faults, meant, shown};
use super::fields::{Fields, choice, form, list, map, name, named, text, whole};
use super::identity::{self, Identity, Voucher};
use super::keys;
use super::models::{self, ModelText};
use super::plan::{self, PlanText};
use super::scalar::{duration, duration_text, size};
use super::tokens;
use super::tree::{Entry, Mark, Node, Spanned, Value};
use super::unit::Unit;
use crate::meter::dialect::Dialect;

const SECTIONS: [&str; 18] = [
    "farebox",
    "bundle",
    "zone",
    "envoy",
    "identity",
    "session",
    "balance",
    "network",
    "models",
    "plans",
    "dropped",
    "levels",
    "seats",
    "packs",
    "assign",
    "unknown",
    "collector",
    "tests",
];

/// All of a policy file. What is at fault is left out, or stands at its default: the faults are noted.
#[derive(Debug)]
pub(super) struct Document {
    pub name: String,
    /// Where the bundle is named.
    pub named_at: Mark,
    pub version: String,
    pub mode: Mode,
    /// An IANA name.
    pub zone: String,
    pub headers: HostMode,
    pub credentials: Vec<String>,
    pub vouchers: Vec<Voucher>,
    pub trusted_proxies: u8,
    pub models: Vec<ModelText>,
    pub plans: Vec<PlanText>,
    /// Where they are listed.
    pub plans_at: Mark,
    /// Names of plans and quotas that are gone on purpose.
    pub dropped: Vec<Spanned<String>>,
    /// What seats belong to, the seat itself first: the order in which accounts are written.
    pub levels: Vec<String>,
    pub session: Vec<String>,
    pub balance: Option<String>,
    pub seats: Vec<SeatText>,
    pub packs: Vec<PackText>,
    pub assign: Assign,
    pub unknown: Unknown,
    pub counted_as: Option<Spanned<String>>,
    pub collector: Option<Collector>,
}

/// A seat as written.
#[derive(Debug)]
pub(super) struct SeatText {
    pub name: Spanned<String>,
    /// What it belongs to, level by level; its own name first. `None`: to nothing of that level, or at fault.
    pub of: Vec<Option<String>>,
    /// Whether something about what it belongs to was at fault, and noted.
    pub unsound: bool,
    pub keys: Vec<Spanned<[u8; 32]>>,
}

impl SeatText {
    /// What it belongs to of a level.
    pub fn of(&self, level: usize) -> Option<&str> {
        self.of.get(level).and_then(|of| of.as_deref())
    }
}

/// A pack as written.
#[derive(Debug)]
pub(super) struct PackText {
    pub name: Spanned<String>,
    /// The level and the name of whose it is.
    pub owner: (usize, Spanned<String>),
    /// In micro-units.
    pub amount: u64,
    pub unit: Unit,
    pub term: (u64, u64),
    pub models: Vec<Spanned<String>>,
}

/// Reads all sections but `tests`, which comes unread. `None` only where the file is no mapping at all.
pub(super) fn read<'n>(root: &'n Node, faults: &mut Faults) -> Option<(Document, Option<&'n Node>)> {
    let policy = Fields::of(root, "the policy", &SECTIONS, faults)?;
    let format = policy.required("farebox", "begin with `farebox: 1`, the version of the policy format", faults);
    if let Some(node) = format {
        whole(node, "the version of the policy format", 1, 1, faults);
    }
    let (name, version, mode) = policy
        .required("bundle", "write `bundle: {name: …, version: …}`", faults)
        .map(|node| bundle(node, faults))
        .unwrap_or_default();
    let zone = policy.optional("zone").and_then(|node| form(node, "zone", faults, zone));
    let section = |key: &str, help: &str, faults: &mut Faults| policy.required(key, help, faults);
    let identity_help = "say which headers carry a key, for example `identity: [{key: [authorization, x-api-key]}]`";
    let identity = section("identity", identity_help, faults).map(|node| identity::read(node, faults));
    let Identity { headers: credentials, vouchers, keyless } = identity.unwrap_or_default();
    let zone = zone.map_or("UTC".to_owned(), |zone| zone.value);
    let models = section("models", "list the models that may be asked for", faults)
        .map(|node| models::read(node, &zone, faults));
    let stated = policy.optional("levels").map(|node| levels(node, faults));
    let plain = stated.is_none();
    let (unknown, counted_as) = unknown(policy.optional("unknown"), faults);
    let levels = stated.unwrap_or_else(|| vec!["seat".to_owned(), "org".to_owned()]);
    let plans =
        section("plans", "define at least one plan", faults).map(|node| plan::read(node, &levels, &zone, faults));
    let seats = section("seats", "list who may call", faults).map(|node| {
        // Where somebody else vouches for callers, a seat may do without keys.
        let shape = Shape { plain, keyless };
        seats(node, &levels, shape, faults)
    });
    let packs = policy.optional("packs").map(|node| packs(node, &levels, &zone, faults));
    let assign = section("assign", "say which seats have which plan", faults)
        .map(|node| assign::read(node, &levels, &zone, faults));
    let document = Document {
        name,
        named_at: policy.key_at("bundle"),
        version,
        mode,
        zone,
        headers: policy.optional("envoy").and_then(|node| envoy(node, faults)).unwrap_or(HostMode::Held),
        credentials,
        vouchers,
        trusted_proxies: policy.optional("network").and_then(|node| network(node, faults)).unwrap_or(0),
        models: models.unwrap_or_default(),
        plans: plans.unwrap_or_default(),
        plans_at: policy.key_at("plans"),
        dropped: policy.optional("dropped").map(|node| dropped(node, faults)).unwrap_or_default(),
        levels,
        session: policy.optional("session").map(|node| session(node, faults)).unwrap_or_default(),
        balance: policy.optional("balance").and_then(|node| form(node, "balance", faults, path)).map(|at| at.value),
        seats: seats.unwrap_or_default(),
        packs: packs.unwrap_or_default(),
        assign: assign.unwrap_or_default(),
        unknown,
        counted_as,
        collector: policy.optional("collector").and_then(|node| collector(node, faults)),
    };
    Some((document, policy.optional("tests")))
}

fn bundle(node: &Node, faults: &mut Faults) -> (String, String, Mode) {
    let known = ["name", "version", "mode"];
    let Some(fields) = Fields::of(node, "bundle", &known, faults) else { return Default::default() };
    let name = fields
        .required("name", "name the bundle: its counters are kept under this name", faults)
        .and_then(|node| named(node, "bundle.name", faults));
    let version = fields
        .required("version", "say which version of the bundle this is, for example today's date", faults)
        .and_then(|node| form(node, "bundle.version", faults, version));
    let modes = [("enforce", Mode::Enforce), ("observe", Mode::Observe)];
    let mode = fields.optional("mode").and_then(|node| choice(node, "bundle.mode", &modes, faults));
    let (name, version) = (name.map(|name| name.value), version.map(|version| version.value));
    (name.unwrap_or_default(), version.unwrap_or_default(), mode.unwrap_or_default())
}

fn version(written: &str) -> Result<String, Complaint> {
    if written.is_empty() || written.len() > 64 || written.chars().any(char::is_control) {
        let message = format!("{} is no version", shown(written));
        return Err(Complaint::new(Code::BadValue, message, "write up to 64 bytes without control characters"));
    }
    Ok(written.to_owned())
}

/// The zone's name as the database spells it.
pub(super) fn zone(written: &str) -> Result<String, Complaint> {
    let name = crate::zone::get(written).and_then(|zone| zone.iana_name().map(str::to_owned));
    name.ok_or_else(|| {
        let help = meant(written, crate::zone::names(), "time zones");
        Complaint::new(Code::UnknownZone, format!("unknown time zone {}", shown(written)), help)
    })
}

fn envoy(node: &Node, faults: &mut Faults) -> Option<HostMode> {
    let fields = Fields::of(node, "envoy", &["headers"], faults)?;
    let node = fields.optional("headers")?;
    choice(node, "envoy.headers", &[("held", HostMode::Held), ("first", HostMode::First)], faults)
}

/// A header name that may carry a key, in lower case (RFC 9110, 5.1: case does not count).
pub(super) fn header(written: &str) -> Result<String, Complaint> {
    let lower = written.to_ascii_lowercase();
    if !is_header_name(&lower) {
        let message = format!("{} is no header name", shown(written));
        return Err(Complaint::new(
            Code::BadValue,
            message,
            "write for example `authorization`, `x-api-key` or `api-key`",
        ));
    }
    let taken = ["host", "content-type", "content-length", "transfer-encoding", "connection", "te", "upgrade"];
    if taken.contains(&lower.as_str()) || lower.starts_with("x-farebox-") || lower == "x-forwarded-for" {
        let message = format!("the header {} has a meaning of its own and carries no key", shown(written));
        return Err(Complaint::new(
            Code::Conflict,
            message,
            "write for example `authorization`, `x-api-key` or `api-key`",
        ));
    }
    Ok(lower)
}

/// RFC 9110, 5.6.2: a token.
pub(super) fn is_header_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    (1..=64).contains(&name.len()) && name.bytes().all(fits)
}

fn network(node: &Node, faults: &mut Faults) -> Option<u8> {
    let fields = Fields::of(node, "network", &["trusted_proxies"], faults)?;
    let count = whole(fields.optional("trusted_proxies")?, "network.trusted_proxies", 0, 16, faults)?;
    u8::try_from(count).ok()
}

/// The most levels of accounts: every call may write one of each.
const MOST_LEVELS: usize = 8;

/// `[seat, team, org]`.
fn levels(node: &Node, faults: &mut Faults) -> Vec<String> {
    let mut levels: Vec<String> = Vec::new();
    let items = list(node, "levels", faults).unwrap_or_default();
    if let Some(beyond) = items.get(MOST_LEVELS) {
        let message = format!("more than {MOST_LEVELS} levels are listed");
        faults.add(beyond.at, Code::TooLarge, message, "keep those that have quotas");
    }
    for item in items.iter().take(MOST_LEVELS) {
        let Some(level) = named(item, "levels", faults) else { continue };
        if levels.contains(&level.value) {
            let message = format!("the level {} is listed twice", shown(&level.value));
            faults.add(level.at, Code::Duplicate, message, "keep one of them");
        } else if ["session", "keys", "packs"].contains(&level.value.as_str()) {
            let message = format!("a level cannot be called {}: the word has a meaning", shown(&level.value));
            faults.add(level.at, Code::Conflict, message, "give it another name");
        } else {
            levels.push(level.value);
        }
    }
    if levels.first().is_none_or(|first| first != "seat") {
        faults.add(node.at, Code::BadValue, "the first level is always the seat", "begin with `seat`: `[seat, org]`");
        levels.retain(|level| level != "seat");
        levels.insert(0, "seat".to_owned());
    }
    levels
}

/// A path that is asked for plainly, and that no dialect speaks at.
fn path(written: &str) -> Result<String, Complaint> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '_' | '.' | '~');
    let segments = || written.split('/').skip(1);
    let odd = written == "/" || segments().any(|segment| segment.is_empty() || segment == "." || segment == "..");
    if !written.starts_with('/') || written.len() > 128 || !written.chars().all(plain) || odd {
        let message = format!("{} is no plain path", shown(written));
        return Err(Complaint::new(Code::BadValue, message, "write for example `/v1/farebox/balance`"));
    }
    if Dialect::of(b"POST", written.as_bytes()).is_some() {
        let message = format!("{} is where models are asked", shown(written));
        return Err(Complaint::new(Code::Conflict, message, "write for example `/v1/farebox/balance`"));
    }
    Ok(written.to_owned())
}

/// `[trial, team/monthly]`.
fn dropped(node: &Node, faults: &mut Faults) -> Vec<Spanned<String>> {
    let items = list(node, "dropped", faults).unwrap_or_default();
    let one = |written: &str| {
        written.split('/').try_for_each(|part| name(part, "a plan or a quota")).map(|()| written.to_owned())
    };
    items.iter().filter_map(|item| form(item, "dropped", faults, one)).collect()
}

/// Headers that group calls into sessions.
fn session(node: &Node, faults: &mut Faults) -> Vec<String> {
    let items = list(node, "session", faults).unwrap_or_default();
    let headers = items.iter().filter_map(|item| form(item, "session", faults, header));
    headers.map(|header| header.value).collect()
}

/// What is asked of every seat.
#[derive(Clone, Copy)]
struct Shape {
    /// Levels are not stated, and every seat is in an organisation.
    plain: bool,
    /// It need not have a key.
    keyless: bool,
}

fn seats(node: &Node, levels: &[String], shape: Shape, faults: &mut Faults) -> Vec<SeatText> {
    let entries = map(node, "seats", faults).unwrap_or_default();
    if entries.is_empty() {
        faults.add(node.at, Code::BadValue, "no seat is listed", "list at least one seat");
    }
    entries.iter().map(|entry| seat(entry, levels, shape, faults)).collect()
}

fn seat(entry: &Entry, levels: &[String], shape: Shape, faults: &mut Faults) -> SeatText {
    faults.keep(entry.at, name(&entry.key, "a seat"));
    let mut seat = SeatText {
        name: Spanned { at: entry.at, value: entry.key.clone() },
        of: vec![Some(entry.key.clone())],
        unsound: true,
        keys: Vec::new(),
    };
    let what = format!("seats.{}", entry.key);
    let groups = || levels.iter().skip(1).map(String::as_str);
    let known: Vec<&str> = groups().chain(["keys"]).collect();
    let Some(fields) = Fields::of(&entry.value, what, &known, faults) else { return seat };
    seat.unsound = false;
    for level in groups() {
        let node = match shape.plain {
            true => {
                let help = "say which organisation the seat belongs to, for example `org: acme`";
                let node = fields.required(level, help, faults);
                seat.unsound |= node.is_none();
                node
            }
            false => fields.optional(level),
        };
        let group = node.map(|node| named(node, &fields.path(level), faults));
        seat.unsound |= matches!(group, Some(None));
        seat.of.push(group.flatten().map(|group| group.value));
    }
    let help = "list the hashes of its keys, for example `keys: [\"sha256:…\"]`";
    let keys = match shape.keyless {
        true => fields.optional("keys"),
        false => fields.required("keys", help, faults),
    };
    let keys = keys.and_then(|node| list(node, &fields.path("keys"), faults));
    let hashes = keys.unwrap_or_default().iter();
    seat.keys = hashes.filter_map(|node| form(node, &fields.path("keys"), faults, keys::hash)).collect();
    seat
}

/// The most packs of a file: each call looks through those of its accounts.
const MOST_PACKS: usize = 10_000;

fn packs(node: &Node, levels: &[String], zone: &str, faults: &mut Faults) -> Vec<PackText> {
    let entries = map(node, "packs", faults).unwrap_or_default();
    if let Some(beyond) = entries.get(MOST_PACKS) {
        let message = format!("more than {MOST_PACKS} packs are listed");
        faults.add(beyond.at, Code::TooLarge, message, "remove those that have ended");
    }
    entries.iter().take(MOST_PACKS).filter_map(|entry| pack(entry, levels, zone, faults)).collect()
}

fn pack(entry: &Entry, levels: &[String], zone: &str, faults: &mut Faults) -> Option<PackText> {
    faults.keep(entry.at, name(&entry.key, "a pack"));
    let what = format!("packs.{}", entry.key);
    let fields = Fields::of(&entry.value, what, &["for", "amount", "from", "until", "models"], faults)?;
    let help = "say whose it is, for example `for: {org: acme}`";
    let owner = fields.required("for", help, faults).and_then(|node| {
        let known: Vec<&str> = levels.iter().map(String::as_str).collect();
        let owner = Fields::of(node, fields.path("for"), &known, faults)?;
        let mut named = levels.iter().enumerate().filter_map(|(at, level)| Some((at, owner.optional(level)?)));
        match (named.next(), named.next()) {
            (Some((level, node)), None) => Some((level, reference(node, "packs.for", faults)?)),
            _ => {
                faults.add(node.at, Code::BadValue, "a pack belongs to one account", help);
                None
            }
        }
    });
    let help = "say how much, for example `amount: 625000 credits`";
    let amount = fields
        .required("amount", help, faults)
        .and_then(|node| form(node, &fields.path("amount"), faults, super::scalar::amount));
    if let Some(amount) = amount.as_ref().filter(|amount| amount.value.0 == 0) {
        faults.add(amount.at, Code::BadValue, "a pack must have something in it", help);
    }
    let at = |key: &str, faults: &mut Faults| {
        let node = fields.optional(key)?;
        form(node, &fields.path(key), faults, |written| super::scalar::moment(written, zone)).map(|at| at.value)
    };
    fields.required("until", "say when it ends, for example `until: 2026-12-01`", faults);
    let term = (at("from", faults).unwrap_or(1), at("until", faults).unwrap_or(u64::MAX));
    if term.0 >= term.1 {
        let message = "the pack ends before it begins";
        faults.add(fields.key_at("until"), Code::Conflict, message, "`until` is the first moment it is not good for");
    }
    let models = fields.optional("models").map(|node| tokens::model_patterns(node, &fields.path("models"), faults));
    let (amount, unit) = amount?.value;
    let name = Spanned { at: entry.at, value: entry.key.clone() };
    Some(PackText { name, owner: owner?, amount, unit, term, models: models.unwrap_or_default() })
}

/// What becomes of what nobody can read, and as whose calls those of unknown paths are counted: `count demo-small`.
fn unknown(node: Option<&Node>, faults: &mut Faults) -> (Unknown, Option<Spanned<String>>) {
    let mut unknown = Unknown { path: OnUnknown::Deny, body: OnUnknown::Deny, after: After::Work };
    let Some(fields) = node.and_then(|node| Fields::of(node, "unknown", &["path", "body", "after"], faults)) else {
        return (unknown, None);
    };
    let counted = fields.optional("path").and_then(|node| match &node.value {
        Value::Plain(written) => Some((node.at, written.strip_prefix("count ")?.trim())),
        _ => None,
    });
    let mut read = |key: &str| choice(fields.optional(key)?, &fields.path(key), &WORDS, faults);
    unknown.path = if counted.is_some() { None } else { read("path") }.unwrap_or(unknown.path);
    unknown.body = read("body").unwrap_or(unknown.body);
    let words = [("deny", After::Deny), ("work", After::Work), ("files", After::Files)];
    let after = fields.optional("after").and_then(|node| choice(node, &fields.path("after"), &words, faults));
    unknown.after = after.unwrap_or(unknown.after);
    (unknown, counted.map(|(at, model)| Spanned { at, value: model.to_owned() }))
}

const WORDS: [(&str, OnUnknown); 2] = [("deny", OnUnknown::Deny), ("pass", OnUnknown::Pass)];

fn collector(node: &Node, faults: &mut Faults) -> Option<Collector> {
    let fields = Fields::of(node, "collector", &["cluster", "sync", "buffer", "patience"], faults)?;
    let cluster = fields
        .required("cluster", "name the Envoy cluster of the collector", faults)
        .and_then(|node| form(node, "collector.cluster", faults, cluster));
    let mut time = |key: &str, otherwise: u64, least: u64, most: u64| {
        let node = fields.optional(key)?;
        let within = |written: &str| between(written, least, most);
        Some(form(node, &fields.path(key), faults, within).map_or(otherwise, |ms| ms.value))
    };
    let sync_ms = time("sync", 1000, 100, 60_000).unwrap_or(1000);
    let patience_ms = time("patience", 2000, 100, 60_000).unwrap_or(2000);
    let buffer = fields.optional("buffer").and_then(|node| form(node, "collector.buffer", faults, buffer));
    Some(Collector {
        cluster: cluster?.value,
        sync_ms,
        buffer_bytes: buffer.map_or(64 << 20, |bytes| bytes.value),
        patience_ms,
    })
}

/// Envoy takes any text as a cluster's name; ours go into logs too.
fn cluster(written: &str) -> Result<String, Complaint> {
    let fits = !written.is_empty() && written.len() <= 256 && written.bytes().all(|byte| byte.is_ascii_graphic());
    let help = "write the cluster's name as in Envoy's configuration, for example `farebox-collector`";
    let complain = || Complaint::new(Code::BadValue, format!("{} is no cluster name", shown(written)), help);
    fits.then(|| written.to_owned()).ok_or_else(complain)
}

fn between(written: &str, least: u64, most: u64) -> Result<u64, Complaint> {
    let ms = duration(written)?;
    let help = format!("write a duration from {} to {}", duration_text(least), duration_text(most));
    let complain = || Complaint::new(Code::BadValue, format!("{} is out of range", shown(written)), help);
    (least..=most).contains(&ms).then_some(ms).ok_or_else(complain)
}

fn buffer(written: &str) -> Result<u64, Complaint> {
    let bytes = size(written)?;
    let complain = || {
        Complaint::new(
            Code::BadValue,
            format!("{} is out of range", shown(written)),
            "write a size from `1 MiB` to `1024 MiB`",
        )
    };
    ((1 << 20)..=(1 << 30)).contains(&bytes).then_some(bytes).ok_or_else(complain)
}

/// Where a name is used and what it is.
pub(super) fn reference(node: &Node, what: &str, faults: &mut Faults) -> Option<Spanned<String>> {
    let at: Mark = node.at;
    text(node, what, faults).map(|written| Spanned { at, value: written.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_are_those_of_the_database_in_its_spelling() {
        assert_eq!(zone("Asia/Shanghai").as_deref(), Ok("Asia/Shanghai"));
        assert_eq!(zone("asia/shanghai").as_deref(), Ok("Asia/Shanghai"));
        assert_eq!(zone("UTC").as_deref(), Ok("UTC"));
        assert!(["", "Mars/Olympus", "Etc/Unknown", "+08:00", "UTC+8"].iter().all(|bad| zone(bad).is_err()));
    }

    #[test]
    fn a_credential_header_is_one_that_can_carry_a_key() {
        assert_eq!(header("X-Api-Key").as_deref(), Ok("x-api-key"));
        assert!(["", ":path", "x y", "Host", "x-farebox-seat"].iter().all(|bad| header(bad).is_err()));
    }
}
