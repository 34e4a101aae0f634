//! Who vouches for a caller: keys in headers, what a filter or the connection has proved, and what a proxy in front says.

use ipnet::IpNet;

use super::bundle::OnUnknown;
use super::connectivity::networks;
use super::diagnostic::{Code, Complaint, Faults, shown};
use super::document::header;
use super::fields::{Fields, choice, form, list};
use super::tree::{Node, Spanned};

/// Somebody besides a key who says whose call it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Voucher {
    /// Who says it.
    pub by: By,
    /// What stands before and behind the name of the seat in what is said; what does not fit says nothing.
    pub around: (String, String),
    /// What happens where it says something that cannot be read: the call is refused, or the voucher has said nothing.
    pub unreadable: OnUnknown,
}

/// Who says whose call it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum By {
    /// A token that Envoy's `jwt_authn` has verified.
    Jwt {
        /// Under which key its payload stands in that filter's metadata (`payload_in_metadata`).
        payload: String,
        /// The claim.
        claim: String,
    },
    /// The first URI in the subject alternative names of the peer's certificate, such as a SPIFFE id.
    San(San),
    /// A proxy in front, which has found out who calls.
    Header {
        /// The header in which it names the seat, in lower case.
        name: String,
        /// Where its connections come from. What comes from elsewhere is not believed.
        from: Vec<IpNet>,
    },
}

/// A kind of subject alternative name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum San {
    /// A URI.
    Uri,
    /// A DNS name.
    Dns,
}

impl Voucher {
    /// The seat that is named by what was said, if it is one of this voucher's names.
    pub fn seat<'a>(&self, said: &'a str) -> Option<&'a str> {
        said.strip_prefix(self.around.0.as_str())?.strip_suffix(self.around.1.as_str())
    }

    /// What is said of a seat.
    pub fn says(&self, seat: &str) -> String {
        format!("{}{seat}{}", self.around.0, self.around.1)
    }

    /// The header that it speaks by, if it does.
    pub fn header(&self) -> Option<&String> {
        match &self.by {
            By::Header { name, .. } => Some(name),
            By::Jwt { .. } | By::San(_) => None,
        }
    }

    /// Its name in messages.
    pub fn name(&self) -> &'static str {
        match &self.by {
            By::Jwt { .. } => "token",
            By::San(_) => "client certificate",
            By::Header { .. } => "trusted header",
        }
    }
}

/// What the `identity` section says, each in the order written.
#[derive(Default)]
pub(super) struct Identity {
    /// The headers that may carry a key.
    pub headers: Vec<String>,
    /// Who else vouches.
    pub vouchers: Vec<Voucher>,
    /// Somebody else was meant to vouch, though what was written may be at fault: seats can do without keys.
    pub keyless: bool,
}

/// The `identity` section.
pub(super) fn read(node: &Node, faults: &mut Faults) -> Identity {
    let mut read = Identity::default();
    let Identity { headers, vouchers, keyless } = &mut read;
    for entry in list(node, "identity", faults).unwrap_or_default() {
        let known = ["key", "jwt", "san", "header", "seat", "from", "unreadable"];
        let Some(fields) = Fields::of(entry, "identity", &known, faults) else { continue };
        let kinds = ["key", "jwt", "san", "header"].into_iter().filter(|key| fields.optional(key).is_some());
        let kinds: Vec<&str> = kinds.collect();
        if fields.optional("from").is_some() && kinds.iter().any(|kind| *kind != "header") {
            let help = "it is for `header`; networks of callers are `sources` of a plan";
            faults.add(
                fields.key_at("from"),
                Code::Conflict,
                "only a header is believed for where it comes from",
                help,
            );
        }
        *keyless |= kinds.iter().any(|kind| *kind != "key");
        match kinds.as_slice() {
            ["key"] => keys(&fields, headers, faults),
            ["jwt"] => vouchers.extend(jwt(&fields, faults)),
            ["san"] => vouchers.extend(san(&fields, faults)),
            ["header"] => vouchers.extend(trusted(&fields, faults)),
            [] => {
                let help = "name the headers that may carry a key, for example `key: [authorization, x-api-key]`";
                fields.required("key", help, faults);
            }
            _ => {
                let help = "write one of `key`, `jwt`, `san` and `header`, and the others on lines of their own";
                faults.add(entry.at, Code::Conflict, "one line names one source of identity", help);
            }
        }
    }
    apart(node, &read, faults);
    read
}

/// A header that carries keys, or a name that a proxy gives, does not do both, or twice.
fn apart(node: &Node, read: &Identity, faults: &mut Faults) {
    let trusted: Vec<&String> = read.vouchers.iter().filter_map(Voucher::header).collect();
    for (at, name) in trusted.iter().enumerate() {
        if read.headers.contains(name) || trusted.iter().take(at).any(|before| before == name) {
            let message = format!("the header {} stands on two lines of identity", shown(name));
            faults.add(node.at, Code::Duplicate, message, "keep one of them");
        }
    }
}

fn keys(fields: &Fields<'_>, names: &mut Vec<String>, faults: &mut Faults) {
    for key in ["seat", "unreadable"].into_iter().filter(|key| fields.optional(key).is_some()) {
        let help = "it is for `jwt`, `san` and `header`; remove it";
        faults.add(fields.key_at(key), Code::Conflict, format!("keys have no `{key}`: the policy lists them"), help);
    }
    let listed = fields.optional("key").and_then(|node| list(node, "identity.key", faults)).unwrap_or_default();
    for node in listed {
        let Some(header) = form(node, "identity.key", faults, header) else { continue };
        if names.contains(&header.value) {
            let message = format!("the header {} is listed twice", shown(&header.value));
            faults.add(header.at, Code::Duplicate, message, "keep one of them");
        } else {
            names.push(header.value);
        }
    }
}

/// `{jwt: payload, seat: sub}`.
fn jwt(fields: &Fields<'_>, faults: &mut Faults) -> Option<Voucher> {
    let part = |node: &Node, what: &str, faults: &mut Faults| form(node, what, faults, path_part);
    let payload = fields.optional("jwt").and_then(|node| part(node, "identity.jwt", faults));
    let help = "name the claim that names the seat, for example `seat: sub`";
    let claim = fields.required("seat", help, faults).and_then(|node| part(node, "identity.seat", faults));
    let unreadable = unreadable(fields, faults);
    let by = By::Jwt { payload: payload?.value, claim: claim?.value };
    Some(Voucher { by, around: Default::default(), unreadable })
}

/// `{san: uri, seat: "spiffe://acme.test/seat/*"}`.
fn san(fields: &Fields<'_>, faults: &mut Faults) -> Option<Voucher> {
    let kinds = [("uri", San::Uri), ("dns", San::Dns)];
    let kind = fields.optional("san").and_then(|node| choice(node, "identity.san", &kinds, faults));
    let help = "say where the name of the seat stands, for example `seat: \"spiffe://acme.test/seat/*\"`";
    let around = fields.required("seat", help, faults).and_then(|node| form(node, "identity.seat", faults, around));
    let unreadable = unreadable(fields, faults);
    let Spanned { value: around, .. } = around?;
    Some(Voucher { by: By::San(kind?), around, unreadable })
}

/// `{header: x-user, from: [10.0.0.5]}`.
fn trusted(fields: &Fields<'_>, faults: &mut Faults) -> Option<Voucher> {
    let name = fields.optional("header").and_then(|node| form(node, "identity.header", faults, header));
    let help = "say where the proxy that sets it connects from, for example `from: [10.0.0.5]`";
    let node = fields.required("from", help, faults)?;
    let from = networks(fields, "from", faults);
    if let Some(wide) = from.iter().find(|network| network.prefix_len() < narrowest(network)) {
        let message = match wide.prefix_len() {
            0 => format!("{} trusts everybody who connects", shown(&wide.to_string())),
            _ => format!("{} is too wide to be a proxy's network", shown(&wide.to_string())),
        };
        let help = "name the addresses of the proxy that sets the header, or its network: /8 at most, /7 in IPv6";
        faults.add(node.at, Code::BadValue, message, help);
    }
    let around = fields.optional("seat").map(|node| form(node, "identity.seat", faults, around));
    let around = around.unwrap_or_else(|| Some(Spanned { at: node.at, value: Default::default() }));
    let unreadable = unreadable(fields, faults);
    Some(Voucher { by: By::Header { name: name?.value, from }, around: around?.value, unreadable })
}

/// The shortest prefix that may be trusted: the widest that are private (10.0.0.0/8, fc00::/7). Several that are wider
/// would together be everybody.
fn narrowest(network: &IpNet) -> u8 {
    match network {
        IpNet::V4(_) => 8,
        IpNet::V6(_) => 7,
    }
}

fn unreadable(fields: &Fields<'_>, faults: &mut Faults) -> OnUnknown {
    let words = [("deny", OnUnknown::Deny), ("ignore", OnUnknown::Pass)];
    let node = fields.optional("unreadable");
    node.and_then(|node| choice(node, "identity.unreadable", &words, faults)).unwrap_or(OnUnknown::Deny)
}

/// One step of a path in Envoy's metadata.
fn path_part(written: &str) -> Result<String, Complaint> {
    if (1..=256).contains(&written.len()) && written.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(written.to_owned());
    }
    let help = "write up to 256 visible ASCII characters without blanks, for example `sub`";
    Err(Complaint::new(Code::BadValue, format!("{} names nothing in a token", shown(written)), help))
}

/// What stands before and behind the one `*`.
fn around(written: &str) -> Result<(String, String), Complaint> {
    let fits = written.len() <= 256 && written.bytes().all(|byte| byte.is_ascii_graphic());
    match written.split_once('*').filter(|(_, behind)| fits && !behind.contains('*')) {
        Some((before, behind)) => Ok((before.to_owned(), behind.to_owned())),
        None => {
            let message = format!("{} does not say where the name of the seat stands", shown(written));
            let help = "write one `*` in its place, for example `spiffe://acme.test/seat/*`";
            Err(Complaint::new(Code::BadValue, message, help))
        }
    }
}
