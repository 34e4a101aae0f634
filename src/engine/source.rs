//! Where a call comes from, as far as it can be believed.
//!
//! `x-forwarded-for` is a list to which every proxy appends the address that it saw, so its right end was written by
//! the proxies nearest to us and its left end by whoever likes to. The policy's `trusted_proxies` says how many
//! entries at the right end were written by proxies that can be believed; the leftmost of those is the caller.
//!
//! **What an Envoy in front must be told.** Tried on 1.40: `source.address` is the connection's own only with
//! `use_remote_address: true` and `xff_num_trusted_hops: 0`. By default it is the last entry of the header, so
//! whatever the client wrote; its port is 0 then, by which [`peer`] knows it. With `use_remote_address: true` Envoy
//! also appends an entry of its own before any filter runs: set `skip_xff_append: true`, or count this Envoy as one
//! of the trusted proxies.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;

use super::event::Header;

/// The caller's address: the peer without proxies in front, else what the outermost trusted proxy saw.
///
/// `None` when it is not known: fewer entries than trusted proxies, or an entry that is no address. Nothing is
/// guessed then, because a caller could provoke the guess. IPv4 inside IPv6 (`::ffff:10.0.0.1`) comes back as IPv4.
pub fn client_address(peer: Option<IpAddr>, headers: &[Header], trusted_proxies: u8) -> Option<IpAddr> {
    let Some(skip) = usize::from(trusted_proxies).checked_sub(1) else {
        return peer.map(|address| address.to_canonical());
    };
    // Lines of one name are one list, in their order (RFC 9110 §5.3).
    let lines = headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case(b"x-forwarded-for"));
    let entry = lines.rev().flat_map(|(_, value)| value.rsplit(|byte| *byte == b',')).nth(skip)?;
    parse(entry)
}

/// The connection's peer, from Envoy's `source.address` (`10.0.0.1:4711`, `[::1]:4711`).
///
/// `None` for port 0, which no connection has: then Envoy has taken the address from a header that anybody can send.
/// `None` too for what has no address, such as a Unix socket.
pub fn peer(source_address: &[u8]) -> Option<IpAddr> {
    let address: SocketAddr = std::str::from_utf8(source_address).ok()?.parse().ok()?;
    (address.port() != 0).then(|| address.ip().to_canonical())
}

/// An entry: an address, or one with a port as some load balancers write it.
fn parse(entry: &[u8]) -> Option<IpAddr> {
    let entry = std::str::from_utf8(entry.trim_ascii()).ok()?;
    let bare = entry.strip_prefix('[').and_then(|inner| inner.strip_suffix(']'));
    let address = match bare {
        Some(inner) => inner.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => entry.parse().ok().or_else(|| entry.parse::<SocketAddr>().ok().map(|with_port| with_port.ip())),
    };
    address.map(|address| address.to_canonical())
}

/// Whether a caller at `address` may call a plan with these networks. An unknown address is in no network.
pub fn allowed(address: Option<IpAddr>, networks: &[IpNet]) -> bool {
    if networks.is_empty() {
        return true;
    }
    address.is_some_and(|address| networks.iter().any(|network| within(network, address.to_canonical())))
}

fn within(network: &IpNet, address: IpAddr) -> bool {
    match (network, address) {
        // A policy may name IPv4 by its IPv6 form. `::/0` names IPv6 and does not let all of IPv4 in by the way.
        (IpNet::V6(v6), IpAddr::V4(v4)) => v6.network().to_ipv4_mapped().is_some() && v6.contains(&v4.to_ipv6_mapped()),
        _ => network.contains(&address),
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use ipnet::IpNet;
    use proptest::prelude::{prop_assert_eq, proptest};

    use super::{allowed, client_address, peer};
    use crate::engine::event::Header;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn nets(list: &[&str]) -> Vec<IpNet> {
        list.iter().map(|net| net.parse().expect("a network")).collect()
    }

    /// The address behind `trusted` proxies, of which the last is the peer 192.0.2.9.
    fn behind(trusted: u8, lines: &[&str]) -> Option<IpAddr> {
        let headers: Vec<Header> =
            lines.iter().map(|line| (b"x-forwarded-for".to_vec(), line.as_bytes().to_vec())).collect();
        client_address(Some(ip("192.0.2.9")), &headers, trusted)
    }

    #[test]
    fn without_proxies_only_the_peer_counts() {
        assert_eq!(behind(0, &["10.0.0.1"]), Some(ip("192.0.2.9")));
        assert_eq!(client_address(None, &[(b"x-forwarded-for".to_vec(), b"10.0.0.1".to_vec())], 0), None);
        assert_eq!(client_address(Some(ip("::ffff:10.0.0.1")), &[], 0), Some(ip("10.0.0.1")));
    }

    #[test]
    fn the_caller_is_what_the_outermost_trusted_proxy_saw() {
        assert_eq!(behind(1, &["203.0.113.7"]), Some(ip("203.0.113.7")));
        assert_eq!(behind(2, &["203.0.113.7, 198.51.100.2"]), Some(ip("203.0.113.7")));
        assert_eq!(behind(2, &["203.0.113.7", "198.51.100.2"]), Some(ip("203.0.113.7")));
        assert_eq!(behind(3, &["203.0.113.7,198.51.100.2", "\t198.51.100.3 "]), Some(ip("203.0.113.7")));
    }

    #[test]
    fn what_a_client_writes_itself_is_not_believed() {
        assert_eq!(behind(1, &["10.0.0.1, 203.0.113.7"]), Some(ip("203.0.113.7")));
        assert_eq!(behind(1, &["10.0.0.1", "10.0.0.2, 203.0.113.7"]), Some(ip("203.0.113.7")));
        assert_eq!(behind(2, &["10.0.0.1, garbage, 203.0.113.7, 198.51.100.2"]), Some(ip("203.0.113.7")));
    }

    #[test]
    fn too_few_entries_or_garbage_are_unknown_and_not_the_peer() {
        assert_eq!(behind(1, &[]), None);
        assert_eq!(behind(2, &["10.0.0.1"]), None);
        for entry in
            ["", " ", "unknown", "10.0.0.1,", "10.0.0", "10.0.0.1:x", "fe80::1%eth0", "010.0.0.1", "[10.0.0.1]"]
        {
            assert_eq!(behind(1, &[entry]), None, "{entry}");
        }
        let raw = vec![(b"x-forwarded-for".to_vec(), b"\xff".to_vec())];
        assert_eq!(client_address(Some(ip("10.0.0.1")), &raw, 1), None);
    }

    #[test]
    fn ports_and_brackets_are_read() {
        assert_eq!(behind(1, &["203.0.113.7:4711"]), Some(ip("203.0.113.7")));
        assert_eq!(behind(1, &["[2001:db8::7]:4711"]), Some(ip("2001:db8::7")));
        assert_eq!(behind(1, &["[2001:db8::7]"]), Some(ip("2001:db8::7")));
        assert_eq!(behind(1, &["::ffff:203.0.113.7"]), Some(ip("203.0.113.7")));
    }

    #[test]
    fn a_peer_without_a_port_came_from_a_header() {
        assert_eq!(peer(b"10.0.0.1:4711"), Some(ip("10.0.0.1")));
        assert_eq!(peer(b"[::1]:4711"), Some(ip("::1")));
        assert_eq!(peer(b"[::ffff:10.0.0.1]:4711"), Some(ip("10.0.0.1")));
        for odd in [&b"10.0.0.1:0"[..], b"[::1]:0", b"10.0.0.1", b"", b"@/tmp/socket", b"\xff:1"] {
            assert_eq!(peer(odd), None, "{odd:?}");
        }
    }

    #[test]
    fn networks_admit_their_own() {
        let list = nets(&["10.0.0.0/8", "fd00::/8"]);
        assert!(allowed(Some(ip("10.255.0.1")), &list));
        assert!(allowed(Some(ip("::ffff:10.1.1.1")), &list));
        assert!(allowed(Some(ip("fd12::1")), &list));
        assert!(!allowed(Some(ip("11.0.0.1")), &list));
        assert!(!allowed(Some(ip("fe80::1")), &list));
        assert!(!allowed(None, &list));
        assert!(allowed(None, &[]));
    }

    #[test]
    fn mapped_networks_mean_ipv4_and_the_whole_of_ipv6_does_not() {
        assert!(allowed(Some(ip("10.1.1.1")), &nets(&["::ffff:10.0.0.0/104"])));
        assert!(!allowed(Some(ip("11.1.1.1")), &nets(&["::ffff:10.0.0.0/104"])));
        assert!(!allowed(Some(ip("10.1.1.1")), &nets(&["::/0"])));
    }

    proptest! {
        /// Whatever stands left of what trusted proxies wrote changes nothing.
        #[test]
        fn nothing_on_the_left_matters(forged: Vec<Vec<u8>>, trusted in 1_u8..5) {
            let written = ["203.0.113.1", "203.0.113.2", "203.0.113.3", "203.0.113.4"];
            let believed: Vec<_> = written.iter().take(usize::from(trusted)).copied().collect();
            let mut headers: Vec<Header> =
                forged.into_iter().map(|line| (b"x-forwarded-for".to_vec(), line)).collect();
            headers.push((b"x-forwarded-for".to_vec(), believed.join(",").into_bytes()));
            prop_assert_eq!(client_address(None, &headers, trusted), Some(ip("203.0.113.1")));
        }
    }
}
