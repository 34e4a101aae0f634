//! MiniMax's own wire formats (MiniMax, "T2A", "T2A Async", "Image", "Video" and "Music generation"): speech is told in
//! characters (a Chinese one twice), music in its length, images by their number; of a film only the name of its task is.
//! Errors come under status 200, in `base_resp`.

use crate::meter::answer::{Absurd, Answer, count};
use crate::meter::json;
use crate::meter::usage::Usage;

/// Whether `base_resp` tells of a failure: any `status_code` but 0.
pub fn failed(base_resp: Option<&str>) -> bool {
    let code = base_resp.and_then(|raw| json::fields(raw, ["status_code"])).and_then(|[code]| code);
    code.is_some_and(|code| json::whole(code) != Some(0))
}

/// Speech: an event, or a whole answer, which has the same frame. `None`: not a JSON object.
pub fn speech(answer: &mut Answer, raw: &str) -> Option<()> {
    let [data, extra, base, task] = json::fields(raw, ["data", "extra_info", "base_resp", "task_id"])?;
    answer.error |= failed(base);
    // What is spoken behind its answer tells them there.
    let extra = extra.or(task.map(|_| raw));
    let [status, audio] = data.and_then(|raw| json::fields(raw, ["status", "audio"])).unwrap_or_default();
    answer.sounded |= audio.is_some_and(json::says);
    answer.finished |= status == Some("2");
    if let Some([characters, length]) = extra.and_then(|raw| json::fields(raw, ["usage_characters", "audio_length"])) {
        let read = || -> Result<Option<Usage>, Absurd> {
            let seconds = count(length)?.unwrap_or(0).div_ceil(1000);
            let told = count(characters)?;
            Ok(told.map(|characters| Usage { characters, seconds, ..Usage::default() }))
        };
        answer.hear(read().transpose());
    }
    Some(())
}

/// Images, films and music. `None`: not a JSON object.
pub fn media(answer: &mut Answer, raw: &str) -> Option<()> {
    let [data, extra, base, meta] = json::fields(raw, ["data", "extra_info", "base_resp", "metadata"])?;
    answer.error |= failed(base);
    let [made] = meta.and_then(|raw| json::fields(raw, ["success_count"])).unwrap_or_default();
    let mut images = made.and_then(|raw| json::whole(raw.trim_matches('"'))).unwrap_or(0);
    let lists = data.and_then(|raw| json::fields(raw, ["image_urls", "image_base64"])).unwrap_or_default();
    for list in lists.into_iter().flatten().filter(|_| made.is_none()) {
        json::elements(list, |_| images = images.saturating_add(1));
    }
    answer.made.images = answer.made.images.saturating_add(images.min(1_000));
    let [length] = extra.and_then(|raw| json::fields(raw, ["music_duration"])).unwrap_or_default();
    answer.made.seconds = count(length).unwrap_or_default().unwrap_or(0).div_ceil(1000);
    Some(())
}
