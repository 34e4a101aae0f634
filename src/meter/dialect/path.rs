//! Which paths are LLM calls.

use super::Dialect;

/// The dialect of a path in its plain spelling, query left out.
pub fn plain(path: &[u8]) -> Option<Dialect> {
    let path = path.split(|byte| *byte == b'?').next()?;
    let dialect = by_suffix(path)?;
    // An encoded deployment would be looked up as it is written, and served as it is meant.
    let named = deployment(path) == deployment(&decoded(path));
    (named && normal(path) == path).then_some(dialect)
}

/// Whether a server might read this path as one of ours although [`Dialect::of`] does not: percent-encoded,
/// in other case, with `//`, `.` or `..` segments, parameters, back-slashes or a slash at the end. Such a
/// request would pass unmetered, so it is better refused.
pub fn suspicious(path: &[u8]) -> bool {
    plain(path).is_none() && [normal(path), normal(&decoded(path))].iter().any(|path| by_suffix(path).is_some())
}

/// The model in an Azure path: `…/deployments/<name>/…/chat/completions`. Azure's own segments are read in any case.
pub fn deployment(path: &[u8]) -> Option<&str> {
    let path = path.split(|byte| *byte == b'?').next()?.strip_suffix(b"/chat/completions")?;
    let segments: Vec<_> = path.split(|byte| *byte == b'/').collect();
    let mut pairs = segments.windows(2).rev().filter_map(|pair| <&[&[u8]; 2]>::try_from(pair).ok());
    let [_, name] = pairs.find(|[at, name]| at.eq_ignore_ascii_case(b"deployments") && !name.is_empty())?;
    std::str::from_utf8(name).ok()
}

fn by_suffix(path: &[u8]) -> Option<Dialect> {
    if path.ends_with(b"/chat/completions") {
        Some(Dialect::OpenAiChat)
    } else if path.ends_with(b"/v1/messages") {
        Some(Dialect::AnthropicMessages)
    } else {
        None
    }
}

/// The path as the most lenient server would read it. A plain path is its own normal form, save for case
/// in segments that are not ours.
fn normal(path: &[u8]) -> Vec<u8> {
    let end = path.iter().position(|byte| matches!(byte, b'?' | b'#')).unwrap_or(path.len());
    let path = path.get(..end).unwrap_or_default();
    let mut segments: Vec<&[u8]> = Vec::new();
    for segment in path.split(|byte| matches!(byte, b'/' | b'\\')) {
        let bare = segment.split(|byte| *byte == b';').next().unwrap_or_default();
        match bare.trim_ascii() {
            b"" | b"." => {}
            b".." => {
                segments.pop();
            }
            segment => segments.push(segment),
        }
    }
    let count = segments.len();
    let mut normal = Vec::with_capacity(path.len());
    for (position, segment) in segments.iter().enumerate() {
        normal.push(b'/');
        if position + 2 >= count {
            normal.extend(segment.to_ascii_lowercase());
        } else {
            normal.extend_from_slice(segment);
        }
    }
    normal
}

/// Percent-decoded until nothing changes, five times at most: some chains decode twice.
fn decoded(path: &[u8]) -> Vec<u8> {
    let mut path = path.split(|byte| *byte == b'?').next().unwrap_or_default().to_vec();
    for _ in 0..5 {
        let once = decoded_once(&path);
        if once == path {
            break;
        }
        path = once;
    }
    path
}

fn decoded_once(path: &[u8]) -> Vec<u8> {
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((first, tail)) = rest.split_first() {
        match (first, digit(tail.first()), digit(tail.get(1))) {
            (b'%', Some(high), Some(low)) => {
                out.push(u8::try_from(high * 16 + low).unwrap_or_default());
                rest = tail.get(2..).unwrap_or_default();
            }
            _ => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{deployment, suspicious};
    use crate::meter::dialect::Dialect;

    fn of(path: &str) -> Option<Dialect> {
        Dialect::of(b"POST", path.as_bytes())
    }

    #[test]
    fn plain_paths_are_recognised() {
        for path in ["/v1/chat/completions", "/chat/completions", "/Azure/X/chat/completions?api-version=2024"] {
            assert_eq!(of(path), Some(Dialect::OpenAiChat), "{path}");
            assert!(!suspicious(path.as_bytes()), "{path}");
        }
        for path in ["/v1/messages", "/apps/anthropic/v1/messages?beta=true"] {
            assert_eq!(of(path), Some(Dialect::AnthropicMessages), "{path}");
            assert!(!suspicious(path.as_bytes()), "{path}");
        }
        assert_eq!(Dialect::of(b"GET", b"/v1/messages"), None);
    }

    #[test]
    fn other_spellings_of_them_are_suspicious() {
        for path in [
            "/v1/chat%2Fcompletions",
            "/v1/chat/completion%73",
            "/v1/chat/completion%2573",
            "/v1/chat/completions/",
            "/v1/chat/completions/.",
            "/v1/chat/completions/x/..",
            "//v1/messages",
            "/v1//messages",
            "/v1/./messages",
            "/v1/Messages",
            "/V1/messages",
            "/v1\\messages",
            "/v1/messages;a=b",
            "/v1/messages#a",
            "/v1/messages%3Fa",
            "/a/../v1/messages",
            "/a%20b/v1/messages/",
            "v1/messages",
        ] {
            assert_eq!(of(path), None, "{path}");
            assert!(suspicious(path.as_bytes()), "{path}");
        }
    }

    #[test]
    fn other_paths_are_neither() {
        for path in ["/v1/messages/count_tokens", "/v1/messages/batches", "/v1/models", "/", "", "/v1/completions", "*"]
        {
            assert_eq!(of(path), None, "{path}");
            assert!(!suspicious(path.as_bytes()), "{path}");
        }
    }

    #[test]
    fn azure_names_the_model_in_the_path() {
        assert_eq!(deployment(b"/openai/deployments/gpt-4o/chat/completions?api-version=1"), Some("gpt-4o"));
        assert_eq!(deployment(b"/v1/chat/completions"), None);
        assert_eq!(deployment(b"/deployments//chat/completions"), None);
        assert_eq!(deployment(b"/deployments/chat/completions"), None);
    }

    #[test]
    fn no_spelling_of_an_azure_path_hides_its_model() {
        assert_eq!(deployment(b"/openai/Deployments/gpt-4o/chat/completions"), Some("gpt-4o"));
        assert_eq!(deployment(b"/openai/deployments/gpt-4o/extensions/chat/completions"), Some("gpt-4o"));
        for path in [
            "/openai/deployments/gpt%2D4o/chat/completions",
            "/openai/d%65ployments/gpt-4o/chat/completions",
            "/openai/deployments%2Fgpt-4o/chat/completions",
            "/openai/deployments/gpt%252D4o/chat/completions",
        ] {
            assert_eq!(of(path), None, "{path}");
            assert!(suspicious(path.as_bytes()), "{path}");
        }
    }
}
