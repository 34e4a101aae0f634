//! What an exchange tells its host to do.

use crate::policy::bundle::Retry;

/// What happens to the stream after an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Go on: what was held may leave. For a response body: the chunk may leave, as changed by [`Effect::ReplaceChunk`].
    Continue,
    /// Hold the request: more body is needed, or the exchange waits until woken. Where headers leave first, only the
    /// body is held, and the host takes `content-length` off the headers, because the body may be replaced.
    /// For response headers, a response body or its trailers: nothing of it leaves, nor what follows, until woken.
    Hold,
    /// Answer the client in the upstream's place. Nothing goes upstream, and of an answer under way nothing leaves.
    Reply(Reply),
}

/// An answer of our own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Headers, names in lower case, `content-type` among them.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Vec<u8>,
}

/// One thing to do, in the order given, before the [`Flow`] takes effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Set (replace) a request header. Only while request headers are held.
    SetRequestHeader(String, String),
    /// Try the call again as this says, where its upstream fails it. Only in
    /// [`Event::RequestHeaders`](super::event::Event).
    Retry(Retry),
    /// Remove all request headers of this name. Only while request headers are held.
    RemoveRequestHeader(String),
    /// Replace the whole request body; the host sets `content-length`.
    ReplaceRequestBody(Vec<u8>),
    /// Remove all response headers of this name. Only in [`Event::ResponseHeaders`](super::event::Event).
    RemoveResponseHeader(String),
    /// Set a response header. Only in [`Event::ResponseHeaders`](super::event::Event).
    SetResponseHeader(String, String),
    /// Send these bytes instead of the chunk just shown; after a [`Flow::Hold`] instead of all that was held.
    ReplaceChunk(Vec<u8>),
    /// Break the stream off, on both sides. What leaves in the same callback is lost.
    Break,
    /// Show a value to access logs and later filters: filter state `wasm.farebox.<key>`.
    Note(&'static str, String),
    /// Add to a counter. Labels are values from the bundle only, so that their number is bounded.
    Count {
        /// Metric name, for example `tokens_total`.
        metric: &'static str,
        /// Label names and values.
        labels: Vec<(&'static str, String)>,
        /// What to add.
        by: u64,
    },
    /// Set a gauge to an absolute value.
    Gauge {
        /// Metric name.
        metric: &'static str,
        /// Its value.
        value: u64,
    },
    /// A line for the operator's log.
    Log(Severity, String),
    /// Wake this exchange (by [`Event::Woken`](super::event::Event)) no later than this, by the monotonic clock.
    WakeAt(u64),
    /// Wake these exchanges now: what they waited for may be there. The handles are the host's own.
    Wake(Vec<Handle>),
    /// A sync is wanted at once: call [`Vm::sync`](super::vm::Vm::sync) as soon as the host can.
    SyncSoon,
}

/// The host's own name for a stream that waits, given to the engine with each event.
pub type Handle = u32;

/// How loud a log line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Somebody should look.
    Warn,
    /// Something is wrong.
    Error,
}
