//! Usage as Amazon writes it.
//!
//! `inputTokens` excludes what was read from or written to a cache, and the total has both (Converse, "TokenUsage").
//! `cacheDetails` has what was written to a cache by how long that is kept (Converse, "CacheDetail"). Nova's own bodies and the invocation metrics call the same figures `…TokenCount`. Non-streamed invocations have
//! them in headers, whatever the body says.

use crate::meter::answer::{Absurd, count};
use crate::meter::json;
use crate::meter::usage::Usage;

/// Headers of an invocation, each with the figure that it tells.
pub const HEADERS: [(&str, Figure); 4] = [
    ("x-amzn-bedrock-input-token-count", |usage| &mut usage.input),
    ("x-amzn-bedrock-output-token-count", |usage| &mut usage.output),
    ("x-amzn-bedrock-cache-read-input-token-count", |usage| &mut usage.cache_read),
    ("x-amzn-bedrock-cache-write-input-token-count", |usage| &mut usage.cache_write),
];

/// One figure of a usage.
pub type Figure = fn(&mut Usage) -> &mut u64;

/// A usage, or invocation metrics. `None`: it says nothing.
pub fn usage(raw: &str) -> Option<Result<Usage, Absurd>> {
    let names = ["inputTokens", "inputTokenCount", "outputTokens", "outputTokenCount", "totalTokens"];
    let [input, input_count, output, output_count, total] = json::fields(raw, names)?;
    let names =
        ["cacheReadInputTokens", "cacheReadInputTokenCount", "cacheWriteInputTokens", "cacheWriteInputTokenCount"];
    let [read, read_count, written, written_count] = json::fields(raw, names)?;
    let either = |first: Option<&str>, second: Option<&str>| -> Result<u64, Absurd> {
        Ok(count(first)?.or(count(second)?).unwrap_or(0))
    };
    let [details] = json::fields(raw, ["cacheDetails"]).unwrap_or_default();
    let mut hours = Ok(0u64);
    json::elements(details.unwrap_or("[]"), |raw| {
        if let Some([Some("\"1h\""), tokens]) = json::fields(raw, ["ttl", "inputTokens"])
            && let Ok(sum) = hours
        {
            hours = count(tokens).map(|tokens| sum.saturating_add(tokens.unwrap_or(0)));
        }
    });
    let figures = || -> Result<Option<Usage>, Absurd> {
        let cache_write = either(written, written_count)?;
        let usage = Usage {
            input: either(input, input_count)?,
            cache_read: either(read, read_count)?,
            cache_write,
            cache_write_1h: hours?.min(cache_write),
            output: either(output, output_count)?,
            provider_total: count(total)?.unwrap_or(0),
            ..Usage::default()
        };
        Ok((usage.total() > 0).then_some(usage))
    };
    figures().transpose()
}
