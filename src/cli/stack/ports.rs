//! Where the processes of a stack listen.

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;

/// Ports on 127.0.0.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// Envoy's listener for LLM calls.
    pub http: u16,
    /// Envoy's admin interface.
    pub admin: u16,
    /// The collector.
    pub collector: u16,
    /// The upstream, where it runs here.
    pub upstream: u16,
}

/// Ports that are this process's while it keeps this: no other claim gets them.
///
/// A port that was merely free a moment ago can be anybody's when a server is ready to listen there. And Envoy listens
/// beside another Envoy that had the same luck: each then answers a part of the calls.
#[derive(Debug)]
pub struct Claim {
    ports: Ports,
    /// The first port of the block. Whoever listens there owns the others.
    _first: TcpListener,
}

impl Claim {
    /// Where blocks begin: below the ports that the system gives to whoever asks for any.
    const BLOCKS: Range<u16> = 10_300..12_000;
    /// The claim itself, and what can be listened at.
    const BLOCK: u16 = 5;

    /// A block that nobody uses.
    ///
    /// # Errors
    /// When there is none.
    pub fn new() -> Result<Claim, String> {
        let Range { start, end } = Self::BLOCKS;
        let found = (start..end).step_by(usize::from(Self::BLOCK)).find_map(Self::of);
        found.ok_or_else(|| {
            format!("no {} ports in a row are free from {start} to {end}: stop what listens there", Self::BLOCK)
        })
    }

    /// What is claimed.
    pub fn ports(&self) -> Ports {
        self.ports
    }

    fn of(first: u16) -> Option<Claim> {
        let claim = bind(first).ok()?;
        let [http, admin, collector, upstream] = [1, 2, 3, 4].map(|place| first.saturating_add(place));
        for port in [http, admin, collector, upstream] {
            bind(port).ok()?;
        }
        Some(Claim { ports: Ports { http, admin, collector, upstream }, _first: claim })
    }
}

/// Listens at a port of this machine, which fails where anybody else does.
pub(super) fn bind(port: u16) -> io::Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port))
}

#[cfg(test)]
mod tests {
    use super::{Claim, Ports, bind};

    #[test]
    fn what_is_claimed_is_nobody_elses() {
        let claims = [Claim::new().unwrap(), Claim::new().unwrap()];
        let ports = |claim: &Claim| {
            let Ports { http, admin, collector, upstream } = claim.ports();
            [http, admin, collector, upstream]
        };
        let mut all: Vec<_> = claims.iter().flat_map(ports).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 8);
    }

    #[test]
    fn a_block_of_which_a_port_is_taken_is_left_alone() {
        let first = Claim::new().unwrap().ports().http.saturating_sub(1);
        let Some(taken) = (1..Claim::BLOCK).find_map(|place| bind(first.saturating_add(place)).ok()) else { return };
        assert!(Claim::of(first).is_none());
        drop(taken);
    }
}
