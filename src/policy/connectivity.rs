//! The connectivity third of a plan: who may call from where.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};

use super::diagnostic::{Code, Complaint, Faults, shown};
use super::fields::{Fields, form, list, named};
use super::guard::{self, Guard};
use super::plan::PlanText;
use super::tree::Node;

/// The connectivity third of a plan.
#[derive(Clone, Debug, Default)]
pub struct Connectivity {
    /// Networks the caller must be in; empty: any.
    pub sources: Vec<IpNet>,
    /// The value of `x-farebox-tier` on the request that goes upstream.
    pub tier: Option<String>,
    /// Guards that only observe.
    pub observe: Vec<Guard>,
}

const GUARDS: [Guard; 1] = [Guard::Sources];

/// Reads it.
pub(super) fn read(node: &Node, what: &str, plan: &mut PlanText, faults: &mut Faults) {
    let Some(fields) = Fields::of(node, what, &["sources", "tier", "observe"], faults) else { return };
    let connectivity = &mut plan.connectivity;
    connectivity.sources = networks(&fields, "sources", faults);
    if let Some(node) = fields.optional("tier") {
        plan.tier_at = node.at;
        connectivity.tier = named(node, &fields.path("tier"), faults).map(|tier| tier.value);
    }
    let there = |guard: Guard| fields.optional(guard.name()).map(|node| node.at);
    connectivity.observe = guard::observed(&fields, &GUARDS, there, faults);
}

fn networks(fields: &Fields<'_>, key: &str, faults: &mut Faults) -> Vec<IpNet> {
    let Some(node) = fields.optional(key) else { return Vec::new() };
    let items = list(node, &fields.path(key), faults).unwrap_or_default();
    items.iter().filter_map(|item| form(item, &fields.path(key), faults, network)).map(|net| net.value).collect()
}

/// A network or a single address. Host bits are dropped; an IPv4 network written in IPv6 becomes what it means,
/// because callers' addresses are compared in that form.
fn network(written: &str) -> Result<IpNet, Complaint> {
    let single = || written.parse::<IpAddr>().map(IpNet::from);
    let net = written.parse::<IpNet>().or_else(|_| single()).map_err(|_| {
        let message = format!("{} is no network", shown(written));
        Complaint::new(
            Code::BadValue,
            message,
            "write an address and a prefix length, for example `10.0.0.0/8` or `fd00::/8`",
        )
    })?;
    let mapped = match net {
        IpNet::V6(v6) => v6.addr().to_ipv4_mapped().zip(v6.prefix_len().checked_sub(96)),
        IpNet::V4(_) => None,
    };
    let plain = mapped.and_then(|(addr, length)| Ipv4Net::new(addr, length).ok()).map(IpNet::V4);
    Ok(plain.unwrap_or(net).trunc())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_read_in_the_form_in_which_callers_are_compared() {
        let read = |text: &str| network(text).unwrap().to_string();
        assert_eq!(read("10.1.2.3/8"), "10.0.0.0/8");
        assert_eq!(read("10.1.2.3"), "10.1.2.3/32");
        assert_eq!(read("::ffff:10.1.2.3/104"), "10.0.0.0/8");
        assert_eq!(read("::ffff:10.1.2.3"), "10.1.2.3/32");
        assert_eq!(read("::/0"), "::/0");
        assert!(["10.0.0.0/33", "10.0.0", "", "localhost"].iter().all(|bad| network(bad).is_err()));
    }
}
