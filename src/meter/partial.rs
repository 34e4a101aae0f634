//! Counting what was delivered of a JSON answer that broke off.

use super::count::Encoding;
use super::json;

/// The keys under which both dialects put what a model wrote.
const SPOKEN: [&str; 8] = [
    "\"content\"",
    "\"text\"",
    "\"reasoning_content\"",
    "\"reasoning\"",
    "\"refusal\"",
    "\"thinking\"",
    "\"arguments\"",
    "\"name\"",
];

/// Output tokens in the beginning of a JSON answer: the strings under known keys, the last one unfinished.
pub fn count(encoding: Encoding, kept: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(kept);
    let mut strings = json::Strings::of(&text);
    let mut spoken = false;
    let mut sum = 0u64;
    while let Some(literal) = strings.next() {
        let rest = strings.rest().trim_ascii_start();
        if rest.starts_with(':') {
            spoken = SPOKEN.contains(&literal);
        } else if spoken {
            sum = sum.saturating_add(json::text(literal).map_or(0, |text| encoding.count(&text)));
        }
    }
    let unfinished = strings.rest().split_once('"').filter(|_| spoken);
    let unfinished = unfinished.and_then(|(_, raw)| closed(raw));
    sum.saturating_add(unfinished.map_or(0, |text| encoding.count(&text)))
}

/// An unfinished string as text: an escape at its end may be cut in the middle, six bytes at most.
fn closed(raw: &str) -> Option<String> {
    let fitting = (0..=6usize).filter_map(|less| raw.get(..raw.len().checked_sub(less)?));
    fitting.map(|raw| format!("\"{raw}\"")).find_map(|literal| json::text(&literal).map(|text| text.into_owned()))
}

#[cfg(test)]
mod tests {
    use super::count;
    use crate::meter::count::Encoding;

    #[test]
    fn what_was_seen_of_an_answer_counts() {
        let whole = r#"{"id":"a name","choices":[{"index":0,"message":{"role":"assistant","content":"One \u00e9\ntwo"}}],"usage":{}}"#;
        let encoding = Encoding::O200kBase;
        let most = encoding.count("One é\ntwo");
        let mut last = 0;
        for end in 0..=whole.len() {
            last = count(encoding, &whole.as_bytes()[..end]);
            assert!(last <= most + 2, "{end}");
        }
        assert_eq!(last, most);
        assert_eq!(count(encoding, br#"{"choices":[{"message":{"content":"One"#), encoding.count("One"));
        assert_eq!(count(encoding, br#"{"choices":[{"message":{"content":"One\u00"#), encoding.count("One"));
    }
}
