//! Images in formats that have a key of their own for each use of one: the masks, references and frames of those who make
//! images and films, and the pictures of embeddings.
//!
//! | provider | keys |
//! |---|---|
//! | Amazon ("Titan Image", "Nova Canvas", "Nova Reel", "Titan Multimodal Embeddings") | `image`, `images`, `conditionImage`, `maskImage`, `referenceImage`, `inputImage` |
//! | Stability at Amazon | `image`, `init_image`, `mask`, `mask_image`, `style_image` |
//! | Luma, TwelveLabs at Amazon | `keyframes.frame0`, `image.mediaSource` |
//! | Google ("Imagen", "Veo", "Virtual Try-On") | `image`, `mask`, `lastFrame`, `referenceImages[].referenceImage`, `personImage`, `productImages` |
//! | MiniMax ("Image", "Video") | `first_frame_image`, `last_frame_image`, `subject_reference[].image_file` |
//! | Alibaba (embeddings, "Wan") | `contents[].image`, `multi_images`, `img_url`, `base_image_url`, `first_frame_url`, `ref_images_url` |
//! | OpenAI ("Images", edits in JSON) | `image`, `mask`, `images[].image_url`, `images[].file_id` |

use crate::meter::json;
use crate::meter::media::Media;
use crate::meter::offer::plain;
use crate::meter::origin::is_address;
use crate::meter::part::{Kind, Parts};

/// How deep images lie within settings.
const DEEPEST: u8 = 8;

/// What stands under a key: an image or several, a text, or settings with images among them.
pub fn under<'a>(parts: &mut Parts<'a>, key: &[u8], raw: &'a str) {
    at(parts, &plain(key), raw, DEEPEST);
}

/// Whether what stands under a key has an image in it, by the names of keys.
pub fn shows(key: &[u8], raw: &str) -> bool {
    is_image(&plain(key)) || shows_within(raw, DEEPEST)
}

fn shows_within(raw: &str, depth: u8) -> bool {
    let Some(below) = depth.checked_sub(1) else { return false };
    let mut found = false;
    let object = json::entries(raw, |key, value| found = found || is_image(&plain(key)) || shows_within(value, below));
    if object.is_none() {
        json::elements(raw, |value| found = found || shows_within(value, below));
    }
    found
}

fn at<'a>(parts: &mut Parts<'a>, key: &[u8], raw: &'a str, depth: u8) {
    let Some(below) = depth.checked_sub(1) else { return parts.add(Kind::Schema, raw) };
    if json::is_null(raw) {
        return;
    }
    if raw.starts_with('"') {
        return text(parts, key, raw);
    }
    if json::elements(raw, |one| at(parts, key, one, below)).is_some() {
        return;
    }
    if is_image(key) && image(parts, raw) {
        return;
    }
    if json::entries(raw, |key, value| at(parts, &plain(key), value, below)).is_none() {
        parts.add(Kind::Schema, raw);
    }
}

fn text<'a>(parts: &mut Parts<'a>, key: &[u8], raw: &'a str) {
    match key {
        key if is_image(key) => string(parts, raw),
        b"prompt" | b"text" | b"negativetext" | b"negativeprompt" => parts.text(raw),
        key if is_film(key) => parts.open_media(&[Media::Video], "media that is not in the body"),
        _ => parts.add(Kind::Schema, raw),
    }
}

/// Base64 or a `data:` URL, or else an address.
fn string<'a>(parts: &mut Parts<'a>, raw: &'a str) {
    match raw {
        "\"\"" => {}
        raw if is_address(raw) => parts.open_media(&[Media::Image], "an image that is not in the body"),
        _ => parts.add(Kind::Image, raw),
    }
}

/// An object in the place of an image: where its bytes are, or where it is. `false`: neither, so it has images within it.
fn image<'a>(parts: &mut Parts<'a>, raw: &'a str) -> bool {
    let mut found = false;
    json::entries(raw, |key, value| match plain(key).as_slice() {
        _ if json::is_null(value) => {}
        b"bytes" | b"data" | b"base64string" | b"bytesbase64encoded" | b"b64json" if value.starts_with('"') => {
            found = true;
            string(parts, value);
        }
        b"url" | b"uri" | b"gcsuri" | b"s3uri" | b"imageurl" if value.starts_with('"') => {
            found = true;
            string(parts, value);
        }
        b"fileid" | b"s3location" => {
            found = true;
            parts.open_media(&[Media::Image], "an image that the provider keeps");
        }
        b"source" | b"mediasource" | b"image" | b"referenceimage" | b"imageurl" if value.starts_with('{') => {
            found |= image(parts, value);
        }
        _ => {}
    });
    found
}

/// Whether a key, without underscores and in lower case, is that of an image or of several.
fn is_image(key: &[u8]) -> bool {
    let mut key = key;
    let ends: [&[u8]; 9] = [b"url", b"urls", b"uri", b"base64", b"b64", b"file", b"files", b"data", b"s"];
    for end in ends {
        key = key.strip_suffix(end).filter(|rest| !rest.is_empty()).unwrap_or(key);
    }
    // `ref_images_url`, `frame0`.
    let key = key.strip_suffix(b"s").unwrap_or(key);
    let digits = key.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let key = key.get(..key.len().saturating_sub(digits)).unwrap_or_default();
    let named: [&[u8]; 3] = [b"image", b"img", b"garment"];
    let whole: [&[u8]; 7] = [b"mask", b"frame", b"firstframe", b"lastframe", b"startframe", b"endframe", b"keyframe"];
    named.iter().any(|end| key.ends_with(end)) || whole.contains(&key)
}

fn is_film(key: &[u8]) -> bool {
    key.strip_suffix(b"url").unwrap_or(key).ends_with(b"video")
}

#[cfg(test)]
mod tests {
    use super::{is_image, under};
    use crate::meter::part::{Kind, Parts};

    /// Images in the body, and those that are elsewhere.
    fn images(raw: &str) -> (usize, u64) {
        let mut parts = Parts::of(raw);
        under(&mut parts, b"settings", raw);
        (parts.list.iter().filter(|part| part.kind == Kind::Image).count(), parts.elsewhere)
    }

    #[test]
    fn every_key_of_an_image() {
        for key in [
            "image",
            "images",
            "inputimage",
            "inputimagebase64",
            "conditionimage",
            "maskimage",
            "mask",
            "initimage",
            "firstframeimage",
            "firstframeurl",
            "lastframe",
            "refimagesurl",
            "imgurl",
            "imageurl",
            "imagefile",
            "frame0",
            "keyframes",
            "multiimages",
            "referenceimages",
            "topgarmenturl",
            "refimg",
        ] {
            assert!(is_image(key.as_bytes()), "{key}");
        }
        for key in [
            "imagesize",
            "imageformat",
            "numberofimages2x",
            "prompt",
            "maskprompt",
            "timeframe",
            "url",
            "data",
            "s",
            "",
        ] {
            assert!(!is_image(key.as_bytes()), "{key}");
        }
    }

    #[test]
    fn images_in_whatever_they_are_put() {
        for (raw, found) in [
            (r#"{"taskType":"IMAGE_VARIATION","imageVariationParams":{"text":"x","images":["AA","BB"]}}"#, (2, 0)),
            (r#"{"textToImageParams":{"text":"x","conditionImage":"AA","controlMode":"CANNY_EDGE"}}"#, (1, 0)),
            (r#"{"inPaintingParams":{"image":"AA","maskImage":"BB","maskPrompt":"x"}}"#, (2, 0)),
            (r#"{"singleEmbeddingParams":{"image":{"format":"png","source":{"bytes":"AA"}}}}"#, (1, 0)),
            (r#"{"singleEmbeddingParams":{"image":{"source":{"s3Location":{"uri":"s3://a"}}}}}"#, (0, 1)),
            (r#"{"keyframes":{"frame0":{"type":"image","source":{"type":"base64","data":"AA"}}}}"#, (1, 0)),
            (
                r#"{"referenceImages":[{"referenceImage":{"bytesBase64Encoded":"AA"}},{"referenceImage":{"gcsUri":"gs://a"}}]}"#,
                (1, 1),
            ),
            (r#"{"productImages":[{"image":{"bytesBase64Encoded":"AA"}}]}"#, (1, 0)),
            (r#"{"subject_reference":[{"type":"character","image_file":"https://a.test/x.png"}]}"#, (0, 1)),
            (r#"{"subject_reference":[{"image_file":["data:image/png;base64,AA","BB"]}]}"#, (2, 0)),
            (
                r#"{"contents":[{"text":"x"},{"image":"https://a.test/x"},{"multi_images":["data:image/png;base64,AA"]}]}"#,
                (1, 1),
            ),
            (r#"{"images":[{"image_url":"https://a.test/x"},{"file_id":"f"}]}"#, (0, 2)),
            (r#"{"image":"https\u003a//a.test/x","mask":"gs\u003a\/\/a"}"#, (0, 2)),
            (r#"{"image":"data:image\/png;base64,AA","mask":"A\/A="}"#, (2, 0)),
            (r#"{"image":"","mask":null,"imageSize":"1K"}"#, (0, 0)),
            (r#"{"IMAGE":"AA","im\u0061ge":"BB"}"#, (2, 0)),
        ] {
            assert_eq!(images(raw), found, "{raw}");
        }
    }
}
