//! What a caller asks of the stand-in: markers.

use std::time::Duration;

/// The request header that carries markers without brackets: `x-upstream: output=200 silent`.
pub const HEADER: &str = "x-upstream";

const SEPARATORS: [char; 3] = [' ', ',', ';'];

/// Every marker's name; a test holds this against [`Script::follow`].
pub const NAMES: [&str; 28] = [
    "output",
    "reasoning",
    "tool-calls",
    "used",
    "arguments",
    "images",
    "seconds",
    "ignore-limit",
    "input",
    "cached",
    "cache-write",
    "cache-write-1h",
    "silent",
    "absurd",
    "break",
    "stall",
    "no-response",
    "served",
    "fail",
    "error",
    "inside-error",
    "garbage",
    "trailers",
    "crlf",
    "comments",
    "echo",
    "pace",
    "slow-headers",
];

/// How the stand-in shall behave in one exchange; see the table in [`crate::upstream`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Script {
    /// Output tokens wished for; the caller's own limit still applies.
    pub output: Option<u64>,
    /// Of the output, tokens to report as reasoning (OpenAI).
    pub reasoning: u64,
    /// Tools that are called behind the words.
    pub tool_calls: u64,
    /// Tools that ran elsewhere than at the caller, behind the words: kinds of the provider's own, or `mcp__LABEL__NAME`.
    pub used: Vec<String>,
    /// Say everything as the arguments of a tool that is called, if the caller offers one.
    pub arguments: bool,
    /// Images in the answer; `None`: as many as were asked for.
    pub images: Option<u64>,
    /// Seconds of sound that a transcription is said to have heard.
    pub seconds: u64,
    /// Write what was wished for even past the caller's limit.
    pub ignore_limit: bool,
    /// Prompt tokens to report instead of those counted.
    pub input: Option<u64>,
    /// Prompt tokens to report as read from a cache.
    pub cached: u64,
    /// Prompt tokens to report as written to a cache (Anthropic).
    pub cache_write: u64,
    /// Of these, kept there for an hour.
    pub cache_write_1h: u64,
    /// How the report is kept from the caller, if at all.
    pub report: Report,
    /// Cut the connection after so many output tokens.
    pub cut_after: Option<u64>,
    /// Say nothing more after so many output tokens, until the caller goes away.
    pub stall_after: Option<u64>,
    /// Cut the connection before the response headers.
    pub no_response: bool,
    /// The model that the answer names, in the place of the one asked for.
    pub served: Option<String>,
    /// What the first tries of a request meet, in turn, before one is answered as all else here says: a status with an error
    /// body, or `None`: the connection is cut before the response headers.
    pub fails: Vec<Option<u16>>,
    /// Answer with this status and an error body.
    pub error: Option<u16>,
    /// A 200 whose body or stream holds an error.
    pub inside_error: bool,
    /// A 200 whose body is not what the content type says.
    pub garbage: bool,
    /// End a body by HTTP trailers.
    pub trailers: bool,
    /// End SSE lines with CR LF.
    pub crlf: bool,
    /// Put SSE comments between events.
    pub comments: bool,
    /// Answer with the user's last words instead of words of its own.
    pub echo: bool,
    /// Time between two tokens, instead of the server's.
    pub pace: Option<Duration>,
    /// Time before the response headers.
    pub slow_headers: Duration,
}

/// What the usage in an answer looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Report {
    /// The true numbers.
    #[default]
    Honest,
    /// No usage at all.
    Silent,
    /// Negative and impossibly large numbers.
    Absurd,
}

impl Script {
    /// Follows one marker: `name` or `name=value`.
    ///
    /// # Errors
    /// A text for the caller that names the marker: nobody should wonder why a marker did nothing.
    pub fn follow(&mut self, marker: &str) -> Result<(), String> {
        let (name, value) = marker.split_once('=').unwrap_or((marker, ""));
        match name.trim() {
            "output" => self.output = Some(number(name, value)?),
            "reasoning" => self.reasoning = number(name, value)?,
            "tool-calls" => self.tool_calls = few(name, value)?,
            "used" => self.used.push(word(name, value)?),
            "arguments" => self.arguments = true,
            "images" => self.images = Some(number(name, value)?),
            "seconds" => self.seconds = number(name, value)?,
            "ignore-limit" => self.ignore_limit = true,
            "input" => self.input = Some(number(name, value)?),
            "cached" => self.cached = number(name, value)?,
            "cache-write" => self.cache_write = number(name, value)?,
            "cache-write-1h" => self.cache_write_1h = number(name, value)?,
            "silent" => self.report = Report::Silent,
            "absurd" => self.report = Report::Absurd,
            "break" => self.cut_after = Some(number(name, value)?),
            "stall" => self.stall_after = Some(number(name, value)?),
            "no-response" => self.no_response = true,
            "served" => self.served = Some(word(name, value)?),
            "fail" if value.trim() == "reset" => self.fails.push(None),
            "fail" => self.fails.push(Some(status(value)?)),
            "error" => self.error = Some(status(value)?),
            "inside-error" => self.inside_error = true,
            "garbage" => self.garbage = true,
            "trailers" => self.trailers = true,
            "crlf" => self.crlf = true,
            "comments" => self.comments = true,
            "echo" => self.echo = true,
            "pace" => self.pace = Some(time(name, value)?),
            "slow-headers" => self.slow_headers = time(name, value)?,
            other => return Err(format!("unknown marker `{other}`; `farebox upstream --help` lists them")),
        }
        Ok(())
    }

    /// The same for a request that was tried so often before.
    pub fn at_try(self, before: usize) -> Self {
        match self.fails.get(before).copied() {
            Some(error @ Some(_)) => Self { error, ..self },
            Some(None) => Self { error: None, no_response: true, ..self },
            None => self,
        }
    }

    /// Follows every `[[marker]]` in a prompt, in order; several may share one pair of brackets. Double brackets
    /// that do not open with the name of a marker are text: prompts hold wiki links and nested arrays.
    ///
    /// # Errors
    /// As [`Script::follow`].
    pub fn follow_prompt(&mut self, prompt: &str) -> Result<(), String> {
        let mut rest = prompt;
        while let Some((_, after)) = rest.split_once("[[") {
            let Some((markers, behind)) = after.split_once("]]") else { break };
            let first = markers.split(SEPARATORS).next().unwrap_or("");
            if NAMES.contains(&first.split('=').next().unwrap_or("")) {
                self.follow_list(markers)?;
                rest = behind;
            } else {
                rest = after;
            }
        }
        Ok(())
    }

    /// Follows markers that are separated by spaces, commas or semicolons.
    ///
    /// # Errors
    /// As [`Script::follow`].
    pub fn follow_list(&mut self, markers: &str) -> Result<(), String> {
        markers
            .split(SEPARATORS)
            .filter(|marker| !marker.trim().is_empty())
            .try_for_each(|marker| self.follow(marker.trim()))
    }
}

fn number(name: &str, value: &str) -> Result<u64, String> {
    value.trim().parse().map_err(|_| format!("marker `{name}` wants a whole number, not `{value}`"))
}

fn word(name: &str, value: &str) -> Result<String, String> {
    match value.trim() {
        "" => Err(format!("marker `{name}` wants a word, as `{name}=M`")),
        word => Ok(word.to_owned()),
    }
}

/// The most tools that one answer calls.
const MOST_TOOL_CALLS: u64 = 100;

fn few(name: &str, value: &str) -> Result<u64, String> {
    match number(name, value)? {
        many @ 0..=MOST_TOOL_CALLS => Ok(many),
        many => Err(format!("marker `{name}` wants at most {MOST_TOOL_CALLS}, not `{many}`")),
    }
}

fn status(value: &str) -> Result<u16, String> {
    match value.trim().parse() {
        Ok(code @ 400..=599) => Ok(code),
        _ => Err(format!("markers `error` and `fail` want a status from 400 to 599, not `{value}`")),
    }
}

fn time(name: &str, value: &str) -> Result<Duration, String> {
    duration(value).ok_or_else(|| format!("marker `{name}` wants a time like 20ms or 2s, not `{value}`"))
}

/// `20ms`, `2s` or `0`; at most an hour.
pub fn duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let millis = match text.strip_suffix("ms") {
        Some(millis) => millis.parse::<u64>().ok()?,
        None if text == "0" => 0,
        None => text.strip_suffix('s')?.parse::<u64>().ok()?.checked_mul(1_000)?,
    };
    (millis <= 3_600_000).then(|| Duration::from_millis(millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_are_read_from_prompts_and_lists() {
        let mut script = Script::default();
        script.follow_prompt("Hello [[output=200 silent]] there [[break=3]]").unwrap();
        script.follow_list("pace=1ms, slow-headers=2s;crlf").unwrap();
        assert_eq!(
            script,
            Script {
                output: Some(200),
                report: Report::Silent,
                cut_after: Some(3),
                pace: Some(Duration::from_millis(1)),
                slow_headers: Duration::from_secs(2),
                crlf: true,
                ..Script::default()
            }
        );
    }

    #[test]
    fn a_marker_that_cannot_be_followed_is_said() {
        for (marker, says) in [
            ("[[silent outptu=2]]", "unknown marker `outptu`"),
            ("[[output=many]]", "wants a whole number"),
            ("[[error=200]]", "from 400 to 599"),
            ("[[fail=never]]", "from 400 to 599"),
            ("[[tool-calls=101]]", "at most 100"),
            ("[[pace=1h]]", "a time like"),
            ("[[served]]", "wants a word"),
            ("[[served= silent]]", "wants a word"),
            ("[[pace=9999999s]]", "a time like"),
        ] {
            let error = Script::default().follow_prompt(marker).unwrap_err();
            assert!(error.contains(says), "{marker}: {error}");
        }
    }

    #[test]
    fn other_brackets_are_text() {
        let mut script = Script::default();
        script.follow_prompt("[[1, 2], [3]] [[A wiki page]] a [[output=5").unwrap();
        assert_eq!(script, Script::default());
        script.follow_prompt("[[[output=5]]").unwrap();
        assert_eq!(script.output, None, "the brackets open with `[output`");
    }

    #[test]
    fn every_name_is_a_marker() {
        for name in NAMES {
            let followed = Script::default().follow(name);
            assert!(followed.is_ok() || !followed.unwrap_err().contains("unknown"), "{name}");
        }
    }
}
