//! Measures how fast counting is in here, asked by requests: `POST /farebox-bench/<encoding>/<what>/<rounds>` with the
//! text as the body. Only in builds with the feature `bench`, never shipped.

use std::time::Instant;

use super::host::{self, Map};
use crate::engine::effect::Reply;
use crate::engine::event::Header;
use crate::meter::count::Encoding;
use crate::meter::measure::measure;

const PATH: &[u8] = b"/farebox-bench/";
/// Bytes of a page of linear memory.
const PAGE: usize = 64 * 1024;

/// Whether a request is for us.
pub fn is_asked(headers: &[Header]) -> bool {
    headers.iter().any(|(name, value)| name == b":path" && value.starts_with(PATH))
}

/// Answers such a request, now that its body is there: tokens, nanoseconds of the first and of the fastest pass, and bytes of
/// linear memory before and after.
pub fn request_body(body: &[u8]) -> Option<Reply> {
    let path = host::header(Map::Request, ":path")?;
    let asked = String::from_utf8_lossy(path.strip_prefix(PATH)?).into_owned();
    let mut parts = asked.split('/');
    let encoding = Encoding::from_name(parts.next()?)?;
    let what = parts.next()?;
    let rounds = parts.next()?.parse().ok()?;
    let text = String::from_utf8_lossy(body);
    let before = memory();
    #[expect(clippy::disallowed_methods, reason = "a clock of nanoseconds, for the bench only")]
    let begun = Instant::now();
    let now = || u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
    let measured = measure(encoding, what, &text, rounds, now)?;
    let said = format!("{} {} {} {before} {}", measured.tokens, measured.first, measured.best, memory());
    let headers = vec![("content-type".to_owned(), "text/plain".to_owned())];
    Some(Reply { status: 200, headers, body: said.into_bytes() })
}

fn memory() -> usize {
    core::arch::wasm32::memory_size(0).saturating_mul(PAGE)
}
