//! Reading a form with files: `multipart/form-data` (RFC 7578), as sound and images are sent.
//!
//! Its fields become one JSON object, in which [`read_call`](super::call::read_call) then finds what decides cost; of
//! the files only their sizes count.

use std::fmt::Write as _;

use super::call::{Call, Malformed, read_call};
use super::dialect::Dialect;
use super::part::Kind;

/// Bytes of a file in which sound lasts a second at least: 4 kbit/s, below what any codec speaks in.
const LEAST_A_SECOND: u64 = 500;
/// The most fields that are read.
const MOST_FIELDS: usize = 256;

/// Reads what a form asks for. `content_type` is the header, which names the boundary.
pub fn read_form(dialect: Dialect, content_type: &[u8], body: &[u8]) -> Result<Call, Malformed> {
    let boundary =
        boundary(content_type).ok_or_else(|| Malformed::new("the content type names no boundary; name it"))?;
    let mut members: Vec<Member<'_>> = Vec::new();
    let mut files = 0u64;
    for field in fields(body, boundary)? {
        if field.file && dialect == Dialect::OpenAiTranscription {
            files = files.saturating_add(field.value.len() as u64);
            continue;
        }
        let listed = field.name.strip_suffix("[]");
        let name = listed.unwrap_or(field.name);
        let value = match (field.file, field.plain()) {
            (true, _) => "data:image/",
            (false, Some(value)) => value,
            (false, None) => return Err(Malformed::new(format!("the field `{name}` is not UTF-8; send UTF-8"))),
        };
        let value = json_of(value, !field.file);
        // `image[]` may come several times, and is a list.
        match members.iter_mut().find(|member| listed.is_some() && member.listed && member.name == name) {
            Some(member) => member.values.push(value),
            None => members.push(Member { name, listed: listed.is_some(), values: vec![value] }),
        }
    }
    let object = object_of(&members);
    let mut call = read_call(dialect, object.as_bytes())?;
    // Its places are those of the object above.
    call.keep_model();
    call.sound = files;
    if dialect == Dialect::OpenAiTranscription {
        call.asked.seconds = files.div_ceil(LEAST_A_SECOND);
    }
    call.form = true;
    let images = call.parts.iter().filter(|part| part.kind == Kind::Image).count();
    call.elsewhere = call.elsewhere.saturating_add(images as u64);
    Ok(call)
}

/// Whether a form has a text in it that is not in UTF-8, or is wrapped: a field, or a file that says that it is text.
pub fn hides_text(content_type: &[u8], body: &[u8]) -> bool {
    let fields = boundary(content_type).and_then(|boundary| fields(body, boundary).ok());
    fields.is_some_and(|fields| fields.iter().any(|field| field.text && field.plain().is_none()))
}

/// The value or the values of one name.
struct Member<'a> {
    name: &'a str,
    /// Its name says that it is a list: `image[]`.
    listed: bool,
    values: Vec<String>,
}

/// One JSON object of all, in which a name that came twice without being a list is there twice.
fn object_of(members: &[Member<'_>]) -> String {
    let mut object = String::from("{");
    for member in members {
        let comma = if object.len() > 1 { "," } else { "" };
        let name = serde_json::Value::from(member.name);
        let values = member.values.join(",");
        let _ = match member.listed && member.values.len() > 1 {
            true => write!(object, "{comma}{name}:[{values}]"),
            false => write!(object, "{comma}{name}:{values}"),
        };
    }
    object.push('}');
    object
}

/// A field as JSON: numbers and flags as what they are, all else as text.
fn json_of(value: &str, plain: bool) -> String {
    let number = !value.is_empty() && value.len() < 20 && value.bytes().all(|byte| byte.is_ascii_digit());
    let zero_led = value.len() > 1 && value.starts_with('0');
    if plain && ((number && !zero_led) || matches!(value, "true" | "false")) {
        return value.to_owned();
    }
    serde_json::Value::from(value).to_string()
}

/// The boundary that a header names.
fn boundary(content_type: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(content_type).ok()?;
    let mut parameters = text.split(';').map(str::trim);
    if !parameters.next()?.eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let (_, value) =
        parameters.filter_map(|one| one.split_once('=')).find(|(name, _)| name.eq_ignore_ascii_case("boundary"))?;
    let value = value.trim_matches('"');
    (!value.is_empty() && value.len() <= 70).then_some(value)
}

struct Field<'a> {
    name: &'a str,
    file: bool,
    /// It is a text: no file, or one that says so.
    text: bool,
    /// How it is wrapped (RFC 2045, 6: `quoted-printable`, `base64`). Few unwrap it, and some do so unasked.
    wrapped: bool,
    value: &'a [u8],
}

impl<'a> Field<'a> {
    /// The text that stands there. `None`: it is in other letters than UTF-8. UTF-16 has a zero byte in every letter of
    /// ours, and would pass for UTF-8.
    fn plain(&self) -> Option<&'a str> {
        let text = std::str::from_utf8(self.value).ok()?;
        (!self.wrapped && !text.contains('\0')).then_some(text)
    }
}

fn fields<'a>(body: &'a [u8], boundary: &str) -> Result<Vec<Field<'a>>, Malformed> {
    let broken = || Malformed::new("the form is broken or cut; send it whole, with its last boundary");
    let line = format!("--{boundary}");
    let between = format!("\r\n{line}");
    let finder = memchr::memmem::Finder::new(between.as_bytes());
    let mut rest = match body.strip_prefix(line.as_bytes()) {
        Some(rest) => rest,
        None => finder.find(body).and_then(|at| body.get(at.saturating_add(between.len())..)).ok_or_else(broken)?,
    };
    let mut fields = Vec::new();
    while !rest.starts_with(b"--") {
        let end = finder.find(rest).ok_or_else(broken)?;
        let (part, tail) = rest.split_at_checked(end).ok_or_else(broken)?;
        let head = memchr::memmem::find(part, b"\r\n\r\n").ok_or_else(broken)?;
        let (head, value) = part.split_at_checked(head.saturating_add(4)).ok_or_else(broken)?;
        fields.push(field(head, value).ok_or_else(broken)?);
        if fields.len() > MOST_FIELDS {
            return Err(Malformed::new(format!("the form has more than {MOST_FIELDS} fields; send fewer")));
        }
        rest = tail.get(between.len()..).ok_or_else(broken)?;
    }
    Ok(fields)
}

fn field<'a>(head: &'a [u8], value: &'a [u8]) -> Option<Field<'a>> {
    let head = std::str::from_utf8(head).ok()?;
    let mut field = Field { name: "", file: false, text: false, wrapped: false, value };
    let mut disposed = false;
    for line in head.lines() {
        let Some((header, said)) = line.split_once(':') else { continue };
        let lower = said.trim_ascii().to_ascii_lowercase();
        match header.trim_ascii().to_ascii_lowercase().as_str() {
            "content-disposition" if !disposed => {
                disposed = true;
                disposition(&mut field, said)?;
            }
            "content-type" => field.text |= TEXTS.iter().any(|kind| lower.contains(kind)),
            "content-transfer-encoding" => field.wrapped |= !BARE.contains(&lower.as_str()),
            _ => {}
        }
    }
    field.text |= !field.file;
    (!field.name.is_empty()).then_some(field)
}

/// What a content type says that is text.
const TEXTS: [&str; 4] = ["text/", "json", "xml", "charset="];

/// Ways in which nothing is wrapped (RFC 2045, 6.2).
const BARE: [&str; 3] = ["7bit", "8bit", "binary"];

/// `form-data; name="file"; filename="a.mp3"`. `None`: it has two names.
fn disposition<'a>(field: &mut Field<'a>, said: &'a str) -> Option<()> {
    let mut named = false;
    for (key, value) in said.split(';').filter_map(|one| one.trim_ascii().split_once('=')) {
        match key.to_ascii_lowercase().as_str() {
            "name" if std::mem::replace(&mut named, true) => return None,
            "name" => field.name = value.trim_matches('"'),
            "filename" | "filename*" => field.file = true,
            _ => {}
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::read_form;
    use crate::meter::count::Encoding;
    use crate::meter::dialect::Dialect;
    use crate::meter::written::Leeway;

    const TYPE: &[u8] = b"multipart/form-data; boundary=\"x y\"";

    fn form(fields: &[(&str, &str)]) -> Vec<u8> {
        let mut body = String::new();
        for (disposition, value) in fields {
            body.push_str(&format!("--x y\r\nContent-Disposition: form-data; {disposition}\r\n\r\n{value}\r\n"));
        }
        (body + "--x y--\r\n").into_bytes()
    }

    #[test]
    fn sound_is_told_by_its_size() {
        let sound = "s".repeat(5_000);
        let body = form(&[
            ("name=\"file\"; filename=\"a.mp3\"", &sound),
            ("name=model", "whisper-1"),
            ("name=\"stream\"", "true"),
        ]);
        let call = read_form(Dialect::OpenAiTranscription, TYPE, &body).unwrap();
        assert_eq!((call.model.as_str(), call.stream, call.open, call.asked.seconds), ("whisper-1", true, None, 10));
        assert!(call.input_bound(Encoding::O200kBase) >= 100);
        assert!(call.edits(Some(5), true).is_empty());
    }

    #[test]
    fn a_form_is_never_edited_as_the_json_that_it_was_read_as() {
        let body = form(&[("name=\"file\"; filename=\"a.mp3\"", "s"), ("name=model", "whisper-1")]);
        let mut call = read_form(Dialect::OpenAiTranscription, TYPE, &body).unwrap();
        assert_eq!((call.can_be_sent(), call.send_to("whisper-2"), call.model.as_str()), (false, false, "whisper-1"));
        assert!(call.edits(None, true).is_empty());
    }

    #[test]
    fn images_to_change_are_bounded() {
        let fields = [("name=\"image[]\"; filename=a", "\u{1}png"), ("name=prompt", "a \"hat\""), ("name=n", "2")];
        let call = read_form(Dialect::OpenAiImages, TYPE, &form(&fields)).unwrap();
        assert_eq!((call.choices, call.asked.images, call.open), (2, 2, None));
        assert_eq!(call.texts().collect::<Vec<_>>(), ["a \"hat\""]);
        assert!(call.input_bound(Encoding::O200kBase) > 10_000);
    }

    #[test]
    fn a_list_of_images_is_one_field() {
        let image = ("name=\"image[]\"; filename=a", "png");
        let read = |fields: &[(&str, &str)]| read_form(Dialect::OpenAiImages, TYPE, &form(fields));
        let call = read(&[image, ("name=prompt", "a hat"), image, image, ("name=mask; filename=m", "png")]).unwrap();
        assert_eq!((call.elsewhere, call.texts().collect::<Vec<_>>()), (4, vec!["a hat".into()]));
        assert_eq!(read(&[image, ("name=prompt", "a hat")]).unwrap().elsewhere, 1);
        // What is no list is there once, and under one of its names.
        let single = ("name=image; filename=a", "png");
        for fields in [[single, single], [single, image], [image, single]] {
            assert!(read(&fields).unwrap_err().to_string().contains("`image` appears twice"), "{fields:?}");
        }
        assert!(read(&[("name=\"n[]\"", "1"), ("name=\"n[]\"", "9")]).is_err());
    }

    #[test]
    fn a_text_in_other_letters_is_told_from_a_file() {
        let wide: String = "AKIA".chars().flat_map(|c| [c, '\0']).collect();
        let typed = |kind: &str, value: &str| {
            format!(
                "--x y\r\nContent-Disposition: form-data; name=file; filename=a\r\nContent-Type: {kind}\r\n\r\n{value}\r\n--x y--\r\n"
            )
        };
        let wrapped = |how: &str| {
            format!(
                "--x y\r\nContent-Disposition: form-data; name=prompt\r\nContent-Transfer-Encoding: {how}\r\n\r\nhi=41\r\n--x y--\r\n"
            )
        };
        for (body, hides) in [
            (form(&[("name=prompt", &wide)]), true),
            (form(&[("name=image; filename=a", &wide)]), false),
            (typed("Text/Plain; charset=utf-16le", &wide).into_bytes(), true),
            (typed("image/png", &wide).into_bytes(), false),
            (wrapped("Quoted-Printable").into_bytes(), true),
            (wrapped("8bit").into_bytes(), false),
            (form(&[("name=prompt", "hi")]), false),
            (b"nothing".to_vec(), false),
        ] {
            let told = String::from_utf8_lossy(&body).into_owned();
            assert_eq!(super::hides_text(TYPE, &body), hides, "{told}");
        }
        for body in [form(&[("name=prompt", &wide)]), wrapped("quoted-printable").into_bytes()] {
            assert!(read_form(Dialect::OpenAiImages, TYPE, &body).unwrap_err().to_string().contains("not UTF-8"));
        }
    }

    #[test]
    fn no_place_of_a_form_may_be_changed() {
        let fields = [
            ("name=image; filename=a", "png"),
            ("name=prompt", "a hat"),
            ("name=user", "4111111111111111"),
            ("name=n", "9"),
        ];
        let call = read_form(Dialect::OpenAiImages, TYPE, &form(&fields)).unwrap();
        let texts: Vec<_> = call.strings().map(|written| (written.text.into_owned(), written.leeway)).collect();
        let stays = |text: &str| (text.to_owned(), Leeway::None);
        assert_eq!((texts, call.is_form()), (vec![stays("a hat"), stays("4111111111111111")], true));
        assert!(call.edits(Some(1), true).is_empty());
    }

    #[test]
    fn what_decides_cost_is_there_once() {
        let fault = |body: &[u8]| read_form(Dialect::OpenAiImages, TYPE, body).unwrap_err().to_string();
        assert!(fault(&form(&[("name=n", "1"), ("name=n", "9")])).contains("`n` appears twice"));
        assert!(fault(&form(&[("name=n", "01")])).contains("whole number"));
        assert!(fault(b"--x y\r\n").contains("broken or cut"));
        assert!(read_form(Dialect::OpenAiImages, b"multipart/form-data", b"").is_err());
    }

    proptest! {
        #[test]
        fn any_bytes(body in "(--x y|\r\n|name=a;?|Content-Disposition:|[a-z\"]|--){0,30}", junk in proptest::collection::vec(any::<u8>(), 0..20)) {
            let _ = read_form(Dialect::OpenAiImages, TYPE, &[body.as_bytes(), &junk].concat());
        }
    }
}
