//! Every call to the host, each returning a `Result`; nothing else in the crate is `unsafe`.
//!
//! The imports are declared here once more because the SDK's own wrappers panic on any status that they do not
//! expect, and a panic takes down all streams of the VM. The one wrapper in use is the one for callouts, which has
//! to tell the SDK whose answer it will be. Statuses, map and buffer numbers are those of proxy-wasm ABI 0.2.1.
#![expect(unsafe_code, reason = "host calls are foreign functions")]

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::engine::effect::{Reply, Severity};
use crate::engine::event::{Header, Vouched};
use crate::engine::source;
use crate::now::Now;
use crate::policy::bundle::{By, San, Voucher};
use crate::quota::{Cell, Cells, Expect, StoreError};

/// What the host answered instead of "ok": its status number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status(pub u32);

const NOT_FOUND: u32 = 1;
const CAS_MISMATCH: u32 = 8;

/// Which header map.
#[derive(Clone, Copy)]
pub enum Map {
    /// Readable and writable in the request-headers callback and as long as it returned Pause.
    Request = 0,
    /// Readable and writable in the request-trailers callback.
    RequestTrailers = 1,
    /// Readable and writable in the response-headers callback.
    Response = 2,
    /// In the callback of a callout that was answered.
    Callout = 6,
}

/// Which buffer.
#[derive(Clone, Copy)]
pub enum Buffer {
    /// What is buffered of the request body.
    Request = 0,
    /// The present piece of the response body.
    Response = 1,
    /// The answer to a callout.
    Callout = 4,
    /// The plugin's configuration.
    Configuration = 7,
}

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    fn proxy_log(level: u32, message: *const u8, size: usize) -> u32;
    fn proxy_get_current_time_nanoseconds(time: *mut u64) -> u32;
    fn proxy_set_tick_period_milliseconds(period: u32) -> u32;
    fn proxy_get_buffer_bytes(which: u32, start: usize, most: usize, data: *mut *mut u8, size: *mut usize) -> u32;
    fn proxy_set_buffer_bytes(which: u32, start: usize, length: usize, data: *const u8, size: usize) -> u32;
    fn proxy_get_header_map_pairs(map: u32, data: *mut *mut u8, size: *mut usize) -> u32;
    fn proxy_get_header_map_value(
        map: u32,
        name: *const u8,
        name_size: usize,
        data: *mut *mut u8,
        size: *mut usize,
    ) -> u32;
    fn proxy_replace_header_map_value(
        map: u32,
        name: *const u8,
        name_size: usize,
        value: *const u8,
        value_size: usize,
    ) -> u32;
    fn proxy_remove_header_map_value(map: u32, name: *const u8, name_size: usize) -> u32;
    fn proxy_get_property(path: *const u8, path_size: usize, data: *mut *mut u8, size: *mut usize) -> u32;
    fn proxy_set_property(path: *const u8, path_size: usize, value: *const u8, value_size: usize) -> u32;
    fn proxy_get_shared_data(
        key: *const u8,
        key_size: usize,
        data: *mut *mut u8,
        size: *mut usize,
        cas: *mut u32,
    ) -> u32;
    fn proxy_set_shared_data(key: *const u8, key_size: usize, value: *const u8, value_size: usize, cas: u32) -> u32;
    fn proxy_continue_stream(stream: u32) -> u32;
    fn proxy_close_stream(stream: u32) -> u32;
    fn proxy_send_local_response(
        status: u32,
        details: *const u8,
        details_size: usize,
        body: *const u8,
        body_size: usize,
        headers: *const u8,
        headers_size: usize,
        grpc_status: i32,
    ) -> u32;
    fn proxy_set_effective_context(context: u32) -> u32;
    fn proxy_define_metric(kind: u32, name: *const u8, name_size: usize, id: *mut u32) -> u32;
    fn proxy_increment_metric(id: u32, by: i64) -> u32;
    fn proxy_record_metric(id: u32, value: u64) -> u32;
}

unsafe extern "C" {
    // Not an import: the SDK's export, linked within this module.
    fn proxy_on_queue_ready(root: u32, queue: u32);
}

fn check(status: u32) -> Result<(), Status> {
    if status == 0 { Ok(()) } else { Err(Status(status)) }
}

/// Runs a call that returns bytes allocated in this VM by the SDK's `proxy_on_memory_allocate`.
fn bytes(call: impl FnOnce(*mut *mut u8, *mut usize) -> u32) -> Result<Vec<u8>, Status> {
    let (mut data, mut size) = (std::ptr::null_mut(), 0);
    check(call(&mut data, &mut size))?;
    if data.is_null() {
        return Ok(Vec::new());
    }
    // SAFETY: the allocation function makes a boxed slice of exactly `size` bytes and gives it away.
    Ok(unsafe { Vec::from_raw_parts(data, size, size) })
}

/// Writes a line into Envoy's log.
pub fn log(severity: Severity, message: &str) {
    let level = match severity {
        Severity::Info => 2,
        Severity::Warn => 3,
        Severity::Error => 4,
    };
    // SAFETY: the pointer and the length are one string's. A log line that the host refuses has nowhere to go.
    let _ = unsafe { proxy_log(level, message.as_ptr(), message.len()) };
}

/// Both clocks.
pub fn now() -> Now {
    thread_local!(static START: Instant = monotonic());
    let wall_ms = host_ms();
    #[cfg(feature = "test-hooks")]
    let wall_ms = super::probe::wall_ms(wall_ms);
    let mono = START.with(|start| monotonic().saturating_duration_since(*start));
    Now { wall_ms, mono_ms: u64::try_from(mono.as_millis()).unwrap_or(u64::MAX) }
}

/// The host's wall clock: Unix milliseconds.
pub fn host_ms() -> u64 {
    let mut nanoseconds = 0;
    // SAFETY: the host writes one u64. Should it fail, time stands at 0 and windows only advance.
    let _ = unsafe { proxy_get_current_time_nanoseconds(&mut nanoseconds) };
    nanoseconds / 1_000_000
}

#[expect(clippy::disallowed_methods, reason = "the filter's one monotonic clock")]
fn monotonic() -> Instant {
    Instant::now()
}

/// Sets the period of the root that the current context belongs to, in milliseconds. The timer is armed anew after each tick.
pub fn set_tick_period(milliseconds: u32) -> Result<(), Status> {
    // SAFETY: no pointers.
    check(unsafe { proxy_set_tick_period_milliseconds(milliseconds) })
}

/// All bytes of a buffer. For a request body that was paused from the start: all that has arrived.
pub fn buffer(which: Buffer) -> Result<Vec<u8>, Status> {
    // SAFETY: see `bytes`.
    match bytes(|data, size| unsafe { proxy_get_buffer_bytes(which as u32, 0, usize::MAX >> 1, data, size) }) {
        Err(Status(NOT_FOUND)) => Ok(Vec::new()),
        result => result,
    }
}

/// Replaces a whole buffer. The host knows no other splice that is of use, and none where the message has no body
/// (an error then, for which the SDK's wrapper would panic).
pub fn set_buffer(which: Buffer, value: &[u8]) -> Result<(), Status> {
    // SAFETY: the pointer and the length are one slice's.
    check(unsafe { proxy_set_buffer_bytes(which as u32, 0, usize::MAX >> 1, value.as_ptr(), value.len()) })
}

/// All headers in order, duplicates and non-UTF-8 values included.
pub fn headers(map: Map) -> Result<Vec<Header>, Status> {
    // SAFETY: see `bytes`.
    let packed = bytes(|data, size| unsafe { proxy_get_header_map_pairs(map as u32, data, size) })?;
    Ok(unpack(&packed).unwrap_or_default())
}

/// The pairs format: a count, the sizes of all names and values, then all names and values, each ended by a zero byte.
fn unpack(packed: &[u8]) -> Option<Vec<Header>> {
    let number = |at: usize| -> Option<usize> {
        let bytes: [u8; 4] = packed.get(at..at.checked_add(4)?)?.try_into().ok()?;
        usize::try_from(u32::from_le_bytes(bytes)).ok()
    };
    let count = number(0)?;
    let mut at = count.checked_mul(8)?.checked_add(4)?;
    let mut take = |size: usize| -> Option<Vec<u8>> {
        let end = at.checked_add(size)?;
        let piece = packed.get(at..end)?.to_vec();
        at = end.checked_add(1)?;
        Some(piece)
    };
    let sizes = (0..count).map(|i| Some((number(4 + i * 8)?, number(8 + i * 8)?)));
    sizes.map(|pair| pair.and_then(|(name, value)| Some((take(name)?, take(value)?)))).collect()
}

fn pack(pairs: &[(String, String)]) -> Vec<u8> {
    let size = |text: &str| u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes();
    let mut packed = u32::try_from(pairs.len()).unwrap_or(u32::MAX).to_le_bytes().to_vec();
    for (name, value) in pairs {
        packed.extend(size(name).into_iter().chain(size(value)));
    }
    for (name, value) in pairs {
        packed.extend(name.bytes().chain([0]).chain(value.bytes()).chain([0]));
    }
    packed
}

/// The first value of a header.
pub fn header(map: Map, name: &str) -> Option<Vec<u8>> {
    // SAFETY: see `bytes`; the name's pointer and length are one string's.
    bytes(|data, size| unsafe { proxy_get_header_map_value(map as u32, name.as_ptr(), name.len(), data, size) }).ok()
}

/// Sets a header, replacing all of its values.
pub fn set_header(map: Map, name: &str, value: &str) -> Result<(), Status> {
    // SAFETY: each pointer and length are one string's.
    check(unsafe { proxy_replace_header_map_value(map as u32, name.as_ptr(), name.len(), value.as_ptr(), value.len()) })
}

/// Removes all values of a header.
pub fn remove_header(map: Map, name: &str) -> Result<(), Status> {
    // SAFETY: the pointer and the length are one string's.
    check(unsafe { proxy_remove_header_map_value(map as u32, name.as_ptr(), name.len()) })
}

/// A property's bytes. The path's elements are separated by zero bytes.
pub fn property(path: &str) -> Option<Vec<u8>> {
    // SAFETY: see `bytes`; the path's pointer and length are one string's.
    bytes(|data, size| unsafe { proxy_get_property(path.as_ptr(), path.len(), data, size) }).ok()
}

/// Where this stream came in and goes out: a listener, a virtual host and a route, each of which can have its own limit of
/// what the host buffers.
pub fn place() -> Vec<u8> {
    let said = ["destination\0port", "xds\0virtual_host_name", "xds\0route_name"].map(property);
    said.map(Option::unwrap_or_default).join(&0)
}

/// What a voucher of the policy says of this call.
///
/// Only the first name of its kind in a certificate is told. A claim that is a text comes as it is; a number comes as the
/// eight bytes of a float and a list as lengths and texts, which are no names of seats.
pub fn vouched(voucher: &Voucher) -> Vouched {
    let path = match &voucher.by {
        By::Jwt { payload, claim } => {
            format!("metadata\0filter_metadata\0envoy.filters.http.jwt_authn\0{payload}\0{claim}")
        }
        By::San(San::Uri) => "connection\0uri_san_peer_certificate".to_owned(),
        By::San(San::Dns) => "connection\0dns_san_peer_certificate".to_owned(),
        // The engine has the headers.
        By::Header { .. } => return Vouched::Nothing,
    };
    // SAFETY: see `bytes`; the path's pointer and length are one string's.
    match bytes(|data, size| unsafe { proxy_get_property(path.as_ptr(), path.len(), data, size) }) {
        Ok(said) if said.is_empty() && matches!(voucher.by, By::San(_)) => Vouched::Nothing,
        Ok(said) => Vouched::Says(said),
        Err(Status(NOT_FOUND)) => Vouched::Nothing,
        Err(_) => Vouched::Unreadable,
    }
}

/// A property that is a number: eight bytes, little-endian.
pub fn number(path: &str) -> Option<u64> {
    Some(u64::from_le_bytes(property(path)?.try_into().ok()?))
}

/// The peer of the connection, if it has an address of its own.
pub fn peer() -> Option<IpAddr> {
    source::peer(&property("source\0address")?)
}

/// Sets filter state `wasm.farebox.<key>`. One path element: the host would join several with a zero byte, and nobody
/// could name the result.
pub fn note(key: &str, value: &str) -> Result<(), Status> {
    let path = format!("farebox.{key}");
    // SAFETY: each pointer and length are one string's.
    check(unsafe { proxy_set_property(path.as_ptr(), path.len(), value.as_ptr(), value.len()) })
}

/// Lets a held request go on. Never after a reply in the same callback: both would happen.
pub fn resume_request() -> Result<(), Status> {
    // SAFETY: no pointers.
    check(unsafe { proxy_continue_stream(0) })
}

/// Lets a held answer go on.
pub fn resume_response() -> Result<(), Status> {
    const RESPONSE: u32 = 1;
    // SAFETY: no pointers.
    check(unsafe { proxy_continue_stream(RESPONSE) })
}

/// Breaks the current stream off, on both sides. What was written to the client in this callback is lost.
pub fn break_off() -> Result<(), Status> {
    const RESPONSE: u32 = 1;
    // SAFETY: no pointers.
    check(unsafe { proxy_close_stream(RESPONSE) })
}

/// Answers the client from here.
pub fn reply(reply: &Reply) -> Result<(), Status> {
    let headers = pack(&reply.headers);
    let details = "farebox";
    // SAFETY: each pointer and length are one slice's; -1 says that this is no gRPC status.
    check(unsafe {
        proxy_send_local_response(
            u32::from(reply.status),
            details.as_ptr(),
            details.len(),
            reply.body.as_ptr(),
            reply.body.len(),
            headers.as_ptr(),
            headers.len(),
            -1,
        )
    })
}

/// Makes the following calls act on this stream or root; fails when it has gone.
pub fn set_context(context: u32) -> Result<(), Status> {
    // SAFETY: no pointers.
    check(unsafe { proxy_set_effective_context(context) })
}

/// Runs the root's `on_queue_ready` from within a stream's callback, so that a callout made there belongs to the root:
/// the SDK files it under whose callback runs, and an answer filed under a stream is lost with the stream.
/// The effective context afterwards is `stream` again. Not from a root's callback, where the SDK's table is borrowed.
pub fn run_in_root(root: u32, stream: u32) {
    // SAFETY: an ordinary function of this module; it touches the SDK's table of roots, which no stream callback borrows.
    unsafe { proxy_on_queue_ready(root, u32::MAX) };
    if set_context(stream).is_err() {
        log(Severity::Error, "a stream lost its own context");
    }
}

/// Sends a POST to a cluster and returns the token that its answer will carry. Only while a root's callback runs.
///
/// # Errors
/// The cluster is unknown, has no endpoint, or its circuit breaker is open: there will be no answer.
pub fn dispatch(
    cluster: &str,
    path: &str,
    headers: &[(&str, String)],
    body: &[u8],
    timeout_ms: u64,
) -> Result<u32, Status> {
    let mut all = vec![(":method", "POST"), (":path", path), (":authority", cluster)];
    all.extend(headers.iter().map(|(name, value)| (*name, value.as_str())));
    // Zero would mean no deadline at all.
    let timeout = Duration::from_millis(timeout_ms.clamp(1, u64::from(u32::MAX)));
    proxy_wasm::hostcalls::dispatch_http_call(cluster, all, Some(body), vec![], timeout)
        .map_err(|status| Status(status as u32))
}

/// The kinds of metric that a bundle has.
#[derive(Clone, Copy)]
pub enum Metric {
    /// Only rises; workers add up.
    Counter = 0,
    /// An absolute value.
    Gauge = 1,
}

/// A metric's name with its labels in it, as `stats_tags` in `envoy/envoy.yaml` take it apart.
pub fn metric_name(metric: &str, labels: &[(&str, String)]) -> String {
    let mut name = format!("farebox.{metric}");
    for (label, value) in labels {
        // `;` ends a value, and `=` begins one.
        let value: String =
            value.chars().map(|c| if matches!(c, ';' | '=') || c.is_control() { '_' } else { c }).collect();
        name.push_str(&format!(".{label}={value};"));
    }
    name
}

/// Adds to a counter, or sets a gauge. Each name is defined once a VM: defining costs ten times as much as counting.
pub fn measure(kind: Metric, name: &str, value: u64) -> Result<(), Status> {
    thread_local!(static DEFINED: RefCell<HashMap<String, u32>> = RefCell::default());
    let known = DEFINED.with_borrow(|defined| defined.get(name).copied());
    let id = match known {
        Some(id) => id,
        None => {
            let mut id = 0;
            // SAFETY: the name's pointer and length are one string's; the host writes one u32.
            check(unsafe { proxy_define_metric(kind as u32, name.as_ptr(), name.len(), &mut id) })?;
            DEFINED.with_borrow_mut(|defined| defined.insert(name.to_owned(), id));
            id
        }
    };
    // The host refuses to add nothing. The name is there now, and reads 0.
    if value == 0 && matches!(kind, Metric::Counter) {
        return Ok(());
    }
    // SAFETY: no pointers.
    check(unsafe {
        match kind {
            Metric::Counter => proxy_increment_metric(id, i64::try_from(value).unwrap_or(i64::MAX)),
            Metric::Gauge => proxy_record_metric(id, value),
        }
    })
}

/// The host's shared data: one map a process (and `vm_id`), seen by all VMs.
pub struct SharedData;

impl Cells for SharedData {
    fn load(&mut self, key: &[u8]) -> Result<Option<Cell>, StoreError> {
        #[cfg(feature = "test-hooks")]
        super::probe::calls(key, |(loads, _)| *loads = loads.saturating_add(1));
        let mut version = 0;
        // SAFETY: see `bytes`; the key's pointer and length are one slice's; the host writes one u32.
        match bytes(|data, size| unsafe { proxy_get_shared_data(key.as_ptr(), key.len(), data, size, &mut version) }) {
            Ok(value) => Ok(Some(Cell { value, version })),
            Err(Status(NOT_FOUND)) => Ok(None),
            Err(_) => Err(StoreError),
        }
    }

    fn swap(&mut self, key: &[u8], expect: Expect, value: &[u8]) -> Result<bool, StoreError> {
        #[cfg(feature = "test-hooks")]
        super::probe::calls(key, |(_, swaps)| *swaps = swaps.saturating_add(1));
        let cas = match expect {
            // A missing key takes any version. So "only if absent" is a version that no key has: the host counts them up
            // from 1 over the life of the process.
            Expect::Absent => u32::MAX,
            // To the host this one means "whatever is there".
            Expect::Version(0) => return Err(StoreError),
            Expect::Version(version) => version,
        };
        // SAFETY: each pointer and length are one slice's.
        match unsafe { proxy_set_shared_data(key.as_ptr(), key.len(), value.as_ptr(), value.len(), cas) } {
            0 => Ok(true),
            CAS_MISMATCH => Ok(false),
            _ => Err(StoreError),
        }
    }
}
