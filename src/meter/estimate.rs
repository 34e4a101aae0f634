//! What a request's input comes to, as well as that can be told: its texts, and what the model's [manner](Manner) adds.

use super::call::{Call, THINKING};
use super::count::Encoding;
use super::count::known::{Form, Known};
use super::cut::Cuts;
use super::dialect::{Dialect, namespace, notation};
use super::image;
use super::json;
use super::manner::{Calls, Definitions, Manner, Seals};
use super::part::{Kind, Part};

/// Ids of tool calls up to so many bytes are counted; those of providers are shorter. What is longer has its bytes for a
/// bound, as it counts for nothing in the estimate and could go on without end.
const LABEL: usize = 256;
/// The same of what was thought in turns before.
const THOUGHT: usize = 1 << 18;

/// Tokens of a part in our vocabulary; 0 for what is no text. `None`: so many that its estimate alone is more than `room`.
pub fn count(
    part: &Part,
    call: &Call,
    manner: &Manner,
    encoding: Encoding,
    known: &mut Known,
    room: u64,
) -> Option<u64> {
    let raw = part.raw(call.body_text());
    let Some(form) = form(part, manner) else { return Some(0) };
    if is_too_long(part, raw) {
        return Some(encoding.ceiling(raw.len()));
    }
    let share = |percent| within(room, percent);
    let most = match part.kind {
        Kind::Text | Kind::Json => share(manner.text),
        Kind::Query => within(room.checked_div(call.frames).unwrap_or(room), manner.text),
        Kind::Schema => share(60),
        Kind::Format => share(manner.format),
        Kind::Tools => match manner.definitions {
            Definitions::Percent(percent) => share(percent),
            _ => room,
        },
        Kind::Label | Kind::Thought | Kind::Image | Kind::Audio | Kind::File | Kind::Sealed => u64::MAX,
    };
    known.count(encoding, form, raw, || match form {
        Form::Plain => encoding.count_up_to(raw, most),
        Form::Literal | Form::Digits | Form::Fine => match json::text(raw) {
            Some(text) => manner.cuts.count(encoding, &text, most),
            None => Some(encoding.ceiling(raw.len())),
        },
        Form::Namespace => encoding.count_up_to(&namespace::of(raw), most),
        Form::Declared => manner.cuts.count(encoding, &notation::declared(raw), most),
        Form::Told => manner.cuts.count(encoding, &notation::told(raw), most),
        Form::DeclaredWords => each(notation::declared_words, raw, manner.cuts, encoding, most),
        Form::ToldWords => each(notation::told_words, raw, manner.cuts, encoding, most),
    })
}

/// Tokens of the words that `tell` finds, each by itself, if they are no more than `most`.
fn each(tell: notation::Tell, raw: &str, cuts: Cuts, encoding: Encoding, most: u64) -> Option<u64> {
    let mut room = Some(most);
    tell(raw, &mut |word| {
        room = room.and_then(|room| room.checked_sub(cuts.count(encoding, word, room)?));
    });
    room.map(|room| most.saturating_sub(room))
}

/// No fewer than what [`count`] gives, and how many bytes would have to be counted to know better: as remembered, else its
/// [ceiling](Encoding::ceiling). `None`: its estimate alone is more than `room`.
pub fn at_most(
    part: &Part,
    call: &Call,
    manner: &Manner,
    encoding: Encoding,
    known: &mut Known,
    room: u64,
) -> Option<(u64, usize)> {
    let raw = part.raw(call.body_text());
    Some(match form(part, manner) {
        None => (0, 0),
        Some(_) if is_too_long(part, raw) => (encoding.ceiling(raw.len()), 0),
        // What is counted is written out of them, and may be longer than they are.
        Some(Form::Namespace | Form::Declared | Form::DeclaredWords) => {
            (count(part, call, manner, encoding, known, room)?, 0)
        }
        Some(form) => match known.count(encoding, form, raw, || None) {
            Some(count) => (count, 0),
            None => (encoding.ceiling(raw.len()), raw.len()),
        },
    })
}

/// How its bytes are counted; `None`: they are no text.
fn form(part: &Part, manner: &Manner) -> Option<Form> {
    match part.kind {
        Kind::Text | Kind::Query | Kind::Label | Kind::Thought => Some(match manner.cuts {
            Cuts::None => Form::Literal,
            Cuts::Digits => Form::Digits,
            Cuts::Fine => Form::Fine,
        }),
        Kind::Json => Some(match manner.calls {
            Calls::Json => Form::Plain,
            Calls::Words => Form::ToldWords,
            Calls::Notation => Form::Told,
        }),
        Kind::Schema | Kind::Format => Some(Form::Plain),
        Kind::Tools => Some(match manner.definitions {
            Definitions::Namespace => Form::Namespace,
            Definitions::Words => Form::DeclaredWords,
            Definitions::Notation => Form::Declared,
            Definitions::Percent(_) => Form::Plain,
        }),
        Kind::Image | Kind::Audio | Kind::File | Kind::Sealed => None,
    }
}

/// Whether it counts for nothing in the estimate, and is so long that its bytes are bound enough.
fn is_too_long(part: &Part, raw: &str) -> bool {
    part.kind == Kind::Label && raw.len() > LABEL || part.kind == Kind::Thought && raw.len() > THOUGHT
}

/// The most tokens that come to no more than the room, if `percent` of them count, rounded down.
fn within(room: u64, percent: u64) -> u64 {
    let below = u128::from(room).saturating_add(1).saturating_mul(100).saturating_sub(1);
    below.checked_div(u128::from(percent)).and_then(|most| u64::try_from(most).ok()).unwrap_or(u64::MAX)
}

/// What a part comes to in the estimate, from its count.
pub fn part(part: &Part, call: &Call, manner: &Manner, count: u64) -> u64 {
    let raw = part.raw(call.body_text());
    let bytes = raw.len() as u64;
    match part.kind {
        Kind::Text | Kind::Json => manner.texts(count),
        Kind::Query => manner.texts(count).saturating_mul(call.frames.max(1)),
        // Templates leave out what was thought in turns before.
        Kind::Label | Kind::Thought => 0,
        Kind::Schema => count.saturating_mul(3) / 5,
        Kind::Tools => match manner.definitions {
            Definitions::Percent(percent) => count.saturating_mul(percent) / 100,
            _ => count,
        },
        Kind::Format => count.saturating_mul(manner.format) / 100,
        Kind::Image | Kind::File => image::tokens(raw, &call.model),
        Kind::Audio => bytes / 400,
        Kind::Sealed => match manner.sealed {
            Seals::Read => bytes / 6,
            // The call and its result.
            Seals::OfOneCall if call.calls == 2 && !call.begins_turn => bytes / 8,
            Seals::OfOneCall | Seals::Unread => 0,
        },
    }
}

/// Tokens around the parts.
pub fn framing(call: &Call, manner: &Manner) -> u64 {
    let fixed = match call.beside_limit.thinking {
        None => call.fixed,
        Some(asked) => call.fixed.saturating_sub(THINKING).saturating_add(if asked { manner.thinking } else { 0 }),
    };
    // As sound in a body, which is a third longer there.
    let fixed = fixed.saturating_add(call.sound / 300);
    let Some(chat) = chat(call) else { return fixed };
    let beside = call.offered.saturating_add(call.calls).saturating_add(call.systems);
    let times = [
        (call.frames.saturating_sub(beside), manner.message),
        (call.systems, manner.system),
        (call.calls, manner.call),
        (call.offered, manner.tool),
        (u64::from(call.offered > 0), manner.tools),
        (u64::from(chat), manner.once),
        (u64::from(chat && call.systems == 0 && call.offered == 0), manner.unasked),
    ];
    times.iter().fold(fixed, |sum, (count, each)| sum.saturating_add(count.saturating_mul(*each)))
}

/// Whether a chat template stands around it; `None`: nothing does.
fn chat(call: &Call) -> Option<bool> {
    match call.dialect {
        Dialect::OpenAiCompletions
        | Dialect::OpenAiEmbeddings
        | Dialect::OpenAiModerations
        | Dialect::AnthropicComplete
        | Dialect::GeminiEmbed
        | Dialect::VertexPredict
        | Dialect::CohereEmbed
        | Dialect::CohereGenerate
        | Dialect::OpenAiImages
        | Dialect::OpenAiSpeech
        | Dialect::OpenAiTranscription
        | Dialect::MiniMaxSpeech
        | Dialect::MiniMaxMedia
        | Dialect::Generate => None,
        // Each reading of a document by itself.
        Dialect::OllamaEmbed | Dialect::Rerank => Some(false),
        _ => Some(true),
    }
}

#[cfg(test)]
mod tests {
    use super::within;

    /// It stops as soon as the share is really beyond the room, and no sooner.
    #[test]
    fn counting_stops_where_the_share_of_it_has_no_room() {
        assert_eq!(within(1, 60), 3);
        for (room, percent) in (0..80).flat_map(|room| (1..=250).map(move |percent| (room, percent))) {
            let most = within(room, percent);
            for count in most.saturating_sub(4)..most + 4 {
                assert_eq!(count > most, count * percent / 100 > room, "{count}: {percent} percent in {room}");
            }
        }
        assert_eq!(within(5, 0), u64::MAX);
        assert_eq!(within(u64::MAX, 100), u64::MAX);
    }
}
