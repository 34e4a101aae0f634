//! Whether a string has in it what it stands for, or points at it.
//!
//! Told by what it says, and not by how that is written: JSON lets any character be an escape (`https\u003a//`,
//! `data:image\/png`), and a provider reads what comes of it.

use std::borrow::Cow;

use super::json;

/// What a raw JSON string says.
pub(super) fn told(raw: &str) -> Cow<'_, str> {
    let escaped = || raw.contains('\\').then(|| json::text(raw)).flatten();
    escaped().unwrap_or_else(|| Cow::Borrowed(raw.trim_matches('"')))
}

/// Whether a raw string is a `data:` URL of an image, in lower case as everybody writes it. Some providers unfold documents
/// and films that come in its place.
pub(super) fn is_picture(raw: &str) -> bool {
    raw.starts_with("\"data:image/") || told(raw).starts_with("data:image/")
}

/// Whether a raw string that stands for bytes is an address in their place: base64 has no colon.
pub(super) fn is_address(raw: &str) -> bool {
    !is_picture(raw) && told(raw).contains(':')
}

/// Whether a raw string names files that its provider keeps, in the place of a text (Alibaba Cloud Model Studio, "Long
/// context": `fileid://file-fe-1,fileid://file-fe-2`).
pub(super) fn names_files(raw: &str) -> bool {
    const SCHEME: &str = "fileid://";
    let may = raw.get(1..).is_some_and(|text| text.starts_with(['f', 'F', '\\', ' ']));
    may && told(raw).trim_ascii_start().get(..SCHEME.len()).is_some_and(|head| head.eq_ignore_ascii_case(SCHEME))
}

#[cfg(test)]
mod tests {
    use super::{is_address, is_picture, names_files};

    #[test]
    fn what_it_says_counts_and_not_how_it_is_written() {
        for raw in [r#""data:image/png;base64,AA""#, r#""data:image\/png;base64,AA\/A""#, r#""\u0064ata:image/png,""#] {
            assert!(is_picture(raw) && !is_address(raw), "{raw}");
        }
        for raw in [r#""https://a.test/b""#, r#""https\u003a//a.test/b""#, r#""gs\u003A\/\/b""#, r#""data:text/x,A""#] {
            assert!(is_address(raw) && !is_picture(raw), "{raw}");
        }
        for raw in [r#""iVBORw0K+/AA=""#, r#""iVBORw0K\/AA""#, r#""""#] {
            assert!(!is_address(raw) && !is_picture(raw), "{raw}");
        }
        for raw in [r#""fileid://f""#, r#""\u0066ileid://f""#, r#""FileID:\/\/f,fileid://g""#, r#""\n fileid://f""#] {
            assert!(names_files(raw), "{raw}");
        }
        for raw in [r#""see fileid://f""#, r#""file://f""#, r#""""#, "null", "[]"] {
            assert!(!names_files(raw), "{raw}");
        }
    }
}
