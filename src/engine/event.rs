//! What a host tells an exchange.

use std::net::IpAddr;

/// A header as it is on the wire: a name in lower case and the value's bytes, which may be no UTF-8.
pub type Header = (Vec<u8>, Vec<u8>);

/// What happened to the stream.
#[derive(Clone, Debug)]
pub enum Event<'a> {
    /// The request headers are here, all of them, duplicates included.
    RequestHeaders {
        /// In the order received; `:method`, `:path` and `:authority` among them where present.
        headers: &'a [Header],
        /// The peer of the connection.
        peer: Option<IpAddr>,
        /// What the [vouchers](crate::policy::bundle::Bundle::vouchers) of the policy say, in its order.
        vouched: &'a [Vouched],
        /// No body follows.
        end: bool,
    },
    /// The whole request body so far; the host buffers it and shows all of it at each call. It may leave out those before
    /// the end, as long as there are no more than [`most_body_bytes`](super::exchange::Exchange::most_body_bytes).
    RequestBody {
        /// All bytes from the first.
        body: &'a [u8],
        /// Whether this is all. Request trailers count as the end too.
        end: bool,
    },
    /// What the exchange waited for may be there now, or its deadline has passed.
    Woken {
        /// The whole request body again, as the host buffers it; empty when there was none, or once it has left.
        body: &'a [u8],
    },
    /// The response headers are here.
    ResponseHeaders {
        /// In the order received; `:status` among them.
        headers: &'a [Header],
        /// Whether an upstream answered, and not Envoy or a filter by itself.
        upstream: bool,
        /// Tries that Envoy made upstream so far: each of them may have cost tokens.
        attempts: u32,
        /// No body follows.
        end: bool,
    },
    /// The next piece of the response body, and nothing before it.
    ResponseBody {
        /// The piece; may be empty.
        chunk: &'a [u8],
        /// Whether it is the last.
        end: bool,
    },
    /// The response ended by trailers.
    ResponseTrailers,
    /// The stream is over, however it ended. Always the last event, and the only one that always comes.
    Over {
        /// Why.
        cause: Cause,
        /// Tries that Envoy made upstream; 0: none.
        attempts: u32,
    },
}

/// What a voucher says of a call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Vouched {
    /// Nothing: there is no token, no certificate, or no such claim.
    #[default]
    Nothing,
    /// This: bytes that may be no text.
    Says(Vec<u8>),
    /// Something that the host cannot hand over.
    Unreadable,
}

/// Why a stream is over, as far as the host can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It ran to its end.
    Finished,
    /// The client went away.
    ClientAbort,
    /// No connection to the upstream could be made.
    ConnectFailure,
    /// It was sent nowhere by Envoy's own choice: no route, no cluster, or a limit of its own. That says nothing of an upstream.
    Unrouted,
    /// The upstream broke off, or timed out.
    UpstreamReset,
    /// Envoy is shutting down.
    Shutdown,
    /// Something else: a reset of our own, a filter's failure.
    Other,
}
