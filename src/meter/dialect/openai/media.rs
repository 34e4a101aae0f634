//! Reading what images, speech and transcriptions are answered with (OpenAI, "Images" and "Audio").

use super::usage::{sound_usage, usage};
use crate::meter::answer::{Absurd, Answer, count, seconds};
use crate::meter::json;
use crate::meter::tally::Kind;
use crate::meter::usage::Usage;

/// Images, whole or as events: `image_generation.completed`, `image_edit.completed` each bring one.
///
/// xAI tells a cost only: then the images are what is known.
pub fn images(answer: &mut Answer, raw: &str) -> Option<()> {
    let [error, model, said, data, kind] = json::fields(raw, ["error", "model", "usage", "data", "type"])?;
    answer.error |= error.is_some_and(json::says);
    answer.served_by(model);
    let mut made = u64::from(kind.is_some_and(|kind| kind.ends_with(".completed\"")));
    answer.finished |= made > 0;
    if let Some(data) = data {
        json::elements(data, |_| made = made.saturating_add(1));
    }
    answer.made.images = answer.made.images.saturating_add(made);
    answer.hear(said.and_then(|raw| ark(raw).or_else(|| usage(raw))));
    Some(())
}

/// Images as Volcengine Ark tells them ("Image generation": `usage`), which reads none of what it is asked.
fn ark(raw: &str) -> Option<Result<Usage, Absurd>> {
    let [Some(images), output] = json::fields(raw, ["generated_images", "output_tokens"])? else { return None };
    let read = || -> Result<Usage, Absurd> {
        let (images, output) = (count(Some(images))?.unwrap_or(0), count(output)?.unwrap_or(0));
        Ok(Usage { images, output, provider_total: output, ..Usage::default() })
    };
    Some(read())
}

/// A transcription, whole or as events: `transcript.text.delta`, `transcript.text.done`.
pub fn transcription(answer: &mut Answer, raw: &str) -> Option<()> {
    if raw.trim_ascii() == "[DONE]" {
        answer.finished = true;
        return Some(());
    }
    let names = ["error", "type", "delta", "text", "usage", "duration"];
    let [error, kind, delta, text, said, duration] = json::fields(raw, names)?;
    answer.error |= error.is_some_and(json::says);
    match kind.and_then(json::text).as_deref() {
        Some("transcript.text.delta") => answer.speak(Kind::Text, 0, 0, delta),
        Some("transcript.text.done") => answer.finished = true,
        Some("error") => answer.error = true,
        _ => answer.speak(Kind::Text, 0, 0, text),
    }
    answer.made.seconds = answer.made.seconds.max(seconds(duration).unwrap_or(0));
    if let Some(said) = said {
        sound_usage(answer, said);
    }
    Some(())
}

/// Speech as events: `speech.audio.delta`, `speech.audio.done`. Else it is sound, in which nothing can be read.
pub fn speech(answer: &mut Answer, raw: &str) -> Option<()> {
    let [error, kind, said] = json::fields(raw, ["error", "type", "usage"])?;
    answer.error |= error.is_some_and(json::says);
    answer.finished |= kind == Some("\"speech.audio.done\"");
    answer.sounded |= kind == Some("\"speech.audio.delta\"");
    answer.hear(said.and_then(usage));
    Some(())
}
