//! Reading Anthropic's legacy text completions ("Text Completions (legacy)"): they never report usage.

use crate::meter::answer::Answer;
use crate::meter::json;
use crate::meter::tally::Kind;

/// Reads an event, or a whole completion, which has the same frame. `None`: not a JSON object.
pub fn body(answer: &mut Answer, raw: &str) -> Option<()> {
    let names = ["type", "completion", "stop_reason", "model", "error"];
    let [kind, completion, reason, model, error] = json::fields(raw, names)?;
    answer.served_by(model);
    answer.error |= error.is_some_and(json::says) || kind == Some("\"error\"");
    answer.speak(Kind::Text, 0, 0, completion);
    answer.ended |= reason.is_some();
    Some(())
}
