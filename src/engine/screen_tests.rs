//! What a screen does that no case of `tests/cases/screen.yaml` can show.

use serde_json::{Value, json};

use super::{Answer, Tally, prompt};
use crate::engine::effect::Effect;
use crate::meter::call::{read_call, splice};
use crate::meter::dialect::Dialect;
use crate::meter::form::read_form;
use crate::now::Now;
use crate::policy::bundle::{Bundle, Plan};

const NOW: Now = Now { wall_ms: 1_795_608_000_000, mono_ms: 5 };

fn bundle(security: &str) -> Bundle {
    let text = format!(
        "farebox: 1\nbundle: {{name: b, version: '1'}}\nidentity: [{{key: [authorization]}}]\n\
         models: {{m: {{count: o200k_base}}}}\nplans: {{p: {{security: {security}}}}}\n\
         seats: {{s: {{org: o, keys: [\"sha256:{}\"]}}}}\nassign: [{{when: {{seat: s}}, plan: p}}, {{otherwise: deny}}]\n",
        "1".repeat(64)
    );
    crate::policy::compile(&text, "p").unwrap_or_else(|faults| panic!("{faults:?}"))
}

fn plan(bundle: &Bundle) -> &Plan {
    &bundle.plans[0]
}

fn body_after(bundle: &Bundle, dialect: Dialect, body: &Value) -> (Value, Tally) {
    let call = read_call(dialect, body.to_string().as_bytes()).unwrap();
    let mut tally = Tally::default();
    let screened = prompt(plan(bundle), bundle, &call, &mut tally).unwrap();
    (serde_json::from_slice(&splice(call.body(), &screened.edits)).unwrap(), tally)
}

fn delta(text: &str) -> String {
    format!("data: {}\n\n", json!({"id": "c", "choices": [{"index": 0, "delta": {"content": text}}]}))
}

/// The chunks through the screen of a plan, and what was asked of the host.
fn answer(bundle: &Bundle, chunks: &[&str]) -> (String, Vec<Effect>, bool) {
    let mask = crate::scan::Mask::new(bundle.mask_key);
    let mut answer = Answer::of(plan(bundle), &mask, Dialect::OpenAiChat, None).unwrap();
    let (mut out, mut effects) = (Vec::new(), Vec::new());
    for (at, chunk) in chunks.iter().enumerate() {
        let end = at + 1 == chunks.len();
        out.extend(answer.push(chunk.as_bytes(), end, plan(bundle), Dialect::OpenAiChat, "id-1", NOW, &mut effects));
    }
    (String::from_utf8(out).unwrap(), effects, answer.is_cut())
}

fn counted(effects: &[Effect], wanted: &str) -> Vec<(Vec<String>, u64)> {
    let count = |effect: &Effect| match effect {
        Effect::Count { metric, labels, by } if *metric == wanted => {
            Some((labels.iter().map(|(_, value)| value.clone()).collect(), *by))
        }
        _ => None,
    };
    effects.iter().filter_map(count).collect()
}

#[test]
fn every_text_of_a_prompt_is_looked_at_and_the_rest_stays() {
    let bundle = bundle("{input: {email: tag}}");
    let body = json!({"model": "m", "max_tokens": 9, "temperature": 0.5, "system": "I am a@b.cn", "messages": [
        {"role": "user", "content": [{"type": "text", "text": "say \"a@b.cn\"\n"}]},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "f", "input": {"to": ["a@b.cn"]}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "sent to a@b.cn"}]}]});
    let (after, _) = body_after(&bundle, Dialect::AnthropicMessages, &body);
    assert_eq!(after, serde_json::from_str::<Value>(&body.to_string().replace("a@b.cn", "[email]")).unwrap());
}

#[test]
fn signed_thoughts_stay_as_they_are() {
    let bundle = bundle("{input: {email: redact}}");
    let body = json!({"model": "m", "max_tokens": 9, "messages": [{"role": "assistant", "content": [
        {"type": "thinking", "thinking": "of a@b.cn", "signature": "c2ln"}, {"type": "text", "text": "to a@b.cn"}]}]});
    let (after, tally) = body_after(&bundle, Dialect::AnthropicMessages, &body);
    assert_eq!(after["messages"][0]["content"][0]["thinking"], "of a@b.cn");
    assert_eq!(after["messages"][0]["content"][1]["text"], "to [redacted]");
    let mut effects = Vec::new();
    tally.show("input", "findings", &mut effects);
    assert!(effects.contains(&Effect::Note("findings", "email:redact:1,email:unchanged:1".to_owned())), "{effects:?}");
}

/// What becomes of a form whose prompt has an address in it: the rule that refused it, or what was counted.
fn form(security: &str) -> Result<String, String> {
    let bundle = bundle(security);
    let part = |disposition: &str, value: &str| {
        format!("--b\r\nContent-Disposition: form-data; {disposition}\r\n\r\n{value}\r\n")
    };
    let body = part("name=file; filename=a.mp3", "sound")
        + &part("name=model", "m")
        + &part("name=prompt", "of a@b.cn")
        + "--b--\r\n";
    let call = read_form(Dialect::OpenAiTranscription, b"multipart/form-data; boundary=b", body.as_bytes()).unwrap();
    let mut tally = Tally::default();
    let screened = prompt(plan(&bundle), &bundle, &call, &mut tally);
    let mut effects = Vec::new();
    tally.show("input", "findings", &mut effects);
    let Some(Effect::Note(_, found)) = effects.pop() else { panic!("nothing was found") };
    match screened {
        Ok(screened) => {
            assert!(screened.edits.is_empty(), "an edit of something that is no form: {:?}", screened.edits);
            Ok(found)
        }
        Err(denial) => {
            assert!(!format!("{denial:?}").contains("a@b"), "{denial:?}");
            Err(format!("{}: {}", denial.rule, denial.inside))
        }
    }
}

#[test]
fn a_form_is_never_changed() {
    assert_eq!(form("{input: {email: observe}}"), Ok("email:observe:1".to_owned()));
    let denied = form("{input: {email: deny}}").unwrap_err();
    assert!(denied.starts_with("email: the prompt carries"), "{denied}");
    for action in ["redact", "hash", "tag", "pseudonym"] {
        let refused = form(&format!("{{input: {{email: {action}}}}}")).unwrap_err();
        assert!(refused.starts_with("on_error: the form carries") && refused.contains(action), "{refused}");
        let passed = form(&format!("{{input: {{email: {action}, on_error: pass}}}}"));
        assert_eq!(passed, Ok("email:unchanged:1".to_owned()));
    }
}

#[test]
fn a_name_that_stands_in_the_prompt_is_not_given() {
    let bundle = bundle("{input: {email: pseudonym}}");
    let body = json!({"model": "m", "messages": [{"role": "user", "content": "[EMAIL_1] is a@b.cn"}]});
    let (after, _) = body_after(&bundle, Dialect::OpenAiChat, &body);
    assert_eq!(after["messages"][0]["content"], "[EMAIL_1] is [EMAIL_2]");
}

#[test]
fn a_refusal_names_the_shape_and_never_the_secret() {
    let bundle = bundle("{input: {secrets: deny}}");
    let secret = ["AK", "IAIOSFODNN7EXAMPLE"].concat();
    let body = json!({"model": "m", "messages": [{"role": "user", "content": format!("it is {secret}")}]});
    let call = read_call(Dialect::OpenAiChat, body.to_string().as_bytes()).unwrap();
    let mut tally = Tally::default();
    let denial = prompt(plan(&bundle), &bundle, &call, &mut tally).err().expect("a secret");
    assert_eq!(denial.rule, "secrets");
    assert!(denial.outside.contains("aws_access_key_id") && !format!("{denial:?}").contains("AKIA"), "{denial:?}");
    let mut effects = Vec::new();
    tally.show("input", "findings", &mut effects);
    assert_eq!(counted(&effects, "findings_total"), [(vec!["input".into(), "secrets".into(), "deny".into()], 1)]);
}

#[test]
fn a_stream_that_is_denied_ends_in_an_error_of_the_dialect() {
    let bundle = bundle("{output: {secrets: deny}}");
    let secret = ["AK", "IAIOSFODNN7EXAMPLE"].concat();
    let (first, second) = (delta(&format!("it is {}", &secret[..8])), delta(&format!("{} and more", &secret[8..])));
    let (out, effects, cut) = answer(&bundle, &[&first, &second, &delta("still more"), "data: [DONE]\n\n"]);
    assert!(cut && !out.contains("AKIA") && !out.contains("more"), "{out}");
    let last: Value = serde_json::from_str(out.trim_end().rsplit_once("data: ").unwrap().1).unwrap();
    assert_eq!(last["error"]["code"], "forbidden");
    assert!(effects.contains(&Effect::Note("denied_by", "secrets".into())));
    assert_eq!(counted(&effects, "findings_total").len(), 1);
}

#[test]
fn what_cannot_be_screened_is_broken_off_or_passes_and_is_counted() {
    for (on_error, passes) in [("deny", false), ("pass", true)] {
        let bundle = bundle(&format!("{{output: {{secrets: redact, on_error: {on_error}}}}}"));
        let (out, effects, cut) = answer(&bundle, &[&delta("hello, "), "data: no json\n\n", "data: more\n\n"]);
        assert_eq!((cut, out.contains("no json"), out.contains("more")), (!passes, passes, passes), "{out}");
        assert_eq!(counted(&effects, "unscreened_total"), [(vec![on_error.into()], 1)]);
    }
}

#[test]
fn what_is_observed_is_counted_once_and_passes() {
    let bundle = bundle("{output: {email: observe}}");
    let chunks = [delta("to a@b"), delta(".cn and c@d.cn"), "data: [DONE]\n\n".to_owned()];
    let (out, effects, _) = answer(&bundle, &chunks.each_ref().map(String::as_str));
    let heard: String = out
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok())
        .filter_map(|event| event["choices"][0]["delta"]["content"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(heard, "to a@b.cn and c@d.cn");
    assert_eq!(counted(&effects, "findings_total"), [(vec!["output".into(), "email".into(), "observe".into()], 2)]);
}
