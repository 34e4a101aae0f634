//! One call, and what its caller gets.

use std::io::Read;
use std::time::Duration;

use super::Envoy;
use crate::policy::case::Ends;
use crate::sim::call::Call;

/// How long a client waits that goes away before there is an answer.
const HANGS_UP: Duration = Duration::from_millis(500);

impl Envoy<'_> {
    /// Makes a call, as a caller who leaves as the case says.
    pub(super) fn send(&self, call: &Call, ends: Ends) -> Result<Answered, String> {
        let value = |name: &[u8]| {
            let found = call.headers.iter().find(|(at, _)| at == name);
            found.map(|(_, value)| String::from_utf8_lossy(value).into_owned()).unwrap_or_default()
        };
        let url = format!("http://127.0.0.1:{}{}", self.settings.ports.http, value(b":path"));
        let mut post = ureq::http::Request::builder().method(value(b":method").as_str()).uri(url);
        for (name, value) in call.headers.iter().filter(|(name, _)| !name.starts_with(b":")) {
            post = post.header(name.as_slice(), value.as_slice());
        }
        post = post.header("host", value(b":authority"));
        let post = post.body(call.body.clone()).map_err(|error| format!("the call cannot be sent: {error}"))?;
        let patience = (ends == Ends::HungUp(0)).then_some(HANGS_UP);
        let post = self.agent.configure_request(post).timeout_recv_response(patience).build();
        let mut answer = match self.agent.run(post) {
            Err(ureq::Error::Timeout(_)) if ends == Ends::HungUp(0) => return Ok(Answered::default()),
            answer => answer.map_err(|error| format!("Envoy does not answer: {error}"))?,
        };
        let retry_after = answer.headers().get("retry-after");
        let retry_after = retry_after.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        let status = answer.status().as_u16();
        let mut body = Vec::new();
        let broke = read_answer(&mut answer.body_mut().as_reader(), status, ends, &mut body).err();
        Ok(Answered { status, retry_after, body, broke: broke.map(|error| error.to_string()) })
    }
}

/// Reads what a caller reads who leaves as the case says; what is no answer of a model is read to its end.
fn read_answer(reader: &mut impl Read, status: u16, ends: Ends, body: &mut Vec<u8>) -> std::io::Result<()> {
    match ends {
        Ends::HungUp(tokens) if status == 200 => read_tokens(reader, tokens, body),
        _ => reader.read_to_end(body).map(drop),
    }
}

/// Reads a stream as far as its first `tokens` tokens.
fn read_tokens(reader: &mut impl Read, tokens: u64, body: &mut Vec<u8>) -> std::io::Result<()> {
    let mut piece = [0; 4096];
    while super::super::answered::read(body).tokens < tokens {
        match reader.read(&mut piece)? {
            0 => return Err(std::io::Error::other(format!("it ended before {tokens} tokens"))),
            length => body.extend_from_slice(piece.get(..length).unwrap_or_default()),
        }
    }
    Ok(())
}

/// What the caller got.
#[derive(Default)]
pub(super) struct Answered {
    pub(super) status: u16,
    pub(super) retry_after: Option<String>,
    pub(super) body: Vec<u8>,
    /// Why the body ended before its end.
    pub(super) broke: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::{Ends, read_answer};

    #[test]
    fn a_refusal_is_read_to_its_end_whoever_would_hang_up() {
        let refusal = br#"{"error":{"code":"farebox_exhausted"}}"#;
        let read = |status| {
            let mut body = Vec::new();
            read_answer(&mut &refusal[..], status, Ends::HungUp(5), &mut body).map(|()| body)
        };
        assert_eq!(read(429).expect("a refusal has no tokens"), refusal);
        assert!(read(200).expect_err("an answer has some").to_string().contains("before 5 tokens"));
    }
}
