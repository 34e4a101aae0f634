//! Each limit of each dialect, by the table of keys that its requests are read by.

use serde_json::{Value, json};

use super::{Call, Dialect, Keys, Meaning, Route, read_call, splice};

/// Models whose bodies differ where a dialect has several families of them.
const MODELS: [&str; 5] = ["gpt-4o", "our-model", "amazon.titan-text-lite", "amazon.nova-lite", "meta.llama3-8b"];

/// The objects in which something lies, from the outermost to the innermost; none if it is the body itself.
type Path = Vec<&'static str>;

/// Where the limits of a dialect lie, and their names.
fn limits(keys: Keys, within: &Path, found: &mut Vec<(Path, &'static str)>) {
    for (name, meaning) in keys {
        match meaning {
            Meaning::Limit => found.push((within.clone(), name)),
            Meaning::Within(inner) => limits(inner, &[&within[..], &[name]].concat(), found),
            _ => {}
        }
    }
}

fn body(model: &str, within: &Path, name: &str, limit: Value) -> Value {
    let mut body = json!({"model": model, "before": [1]});
    match within.split_first() {
        Some((outer, inner)) => {
            let settings = json!({"a": 1, name: limit, "z": 2});
            body[*outer] = inner.iter().rev().fold(settings, |settings, name| json!({*name: settings}));
        }
        None => body[name] = limit,
    }
    body
}

fn settings<'a>(body: &'a Value, within: &Path) -> &'a Value {
    within.iter().fold(body, |body, name| &body[name])
}

fn at(body: &Value, within: &Path, name: &str) -> Value {
    settings(body, within)[name].clone()
}

/// The call, and its body once the output is clamped.
fn clamped(dialect: Dialect, body: &Value, most: u64) -> (Call, Value) {
    let bytes = body.to_string().into_bytes();
    let mut call = read_call(dialect, &bytes).unwrap_or_else(|fault| panic!("{dialect:?} {body}: {fault}"));
    if dialect == Dialect::BedrockInvoke {
        let path = format!("/model/{}/invoke", body["model"].as_str().unwrap());
        call.take_route(&Route::of(b"POST", path.as_bytes()).unwrap());
    }
    let after = splice(&bytes, &call.edits(Some(most), false));
    let after = serde_json::from_slice(&after).unwrap_or_else(|fault| panic!("{dialect:?} {body}: {fault}"));
    (call, after)
}

#[test]
fn each_limit_of_each_dialect_is_clamped_and_nothing_else_is_changed() {
    let mut seen = 0;
    for dialect in Dialect::ALL {
        let mut all = Vec::new();
        limits(dialect.keys(), &Path::new(), &mut all);
        // It has the keys of its siblings, and writes nothing.
        all.retain(|_| dialect != Dialect::OllamaEmbed);
        for (within, name) in all {
            for model in MODELS {
                seen += 1;
                let whose = format!("{dialect:?} {model} {within:?} {name}");
                let (call, after) = clamped(dialect, &body(model, &within, name, json!(4096)), 20);
                assert_eq!(call.output_limit, Some(4096), "{whose}");
                assert_eq!(at(&after, &within, name), json!(20), "{whose}: {after}");
                // What stands beside it is as it was, but for the field that the provider surely heeds.
                assert_eq!(after["before"], json!([1]), "{whose}");
                assert_eq!(after["model"], json!(model), "{whose}");
                if !within.is_empty() {
                    let settings = settings(&after, &within);
                    assert_eq!((&settings["a"], &settings["z"]), (&json!(1), &json!(2)), "{whose}");
                }
                // A lower one stays, and what is clamped already is not clamped again.
                let (_, lower) = clamped(dialect, &body(model, &within, name, json!(5)), 20);
                assert_eq!(at(&lower, &within, name), json!(5), "{whose}: {lower}");
                let (again, same) = clamped(dialect, &after, 20);
                assert_eq!((again.output_limit, &same), (Some(20), &after), "{whose}");
            }
        }
    }
    assert!(seen > 100, "{seen}");
}

/// Where nobody can be told a lower limit, nothing lower may be held.
#[test]
fn a_call_that_takes_no_limit_is_not_clamped() {
    let floor = |path: &[u8], body: &str| {
        let route = Route::of(b"POST", path).unwrap();
        let mut call = read_call(route.dialect, body.as_bytes()).unwrap();
        call.take_route(&route);
        call.floor
    };
    let arn = b"/model/arn%3Aaws%3Abedrock%3Aeu-west-1%3A1%3Aapplication-inference-profile%2Fx/invoke";
    assert_eq!(floor(b"/v1/responses/compact", r#"{"model":"m","input":"x"}"#), u64::MAX);
    assert_eq!(floor(arn, r#"{"prompt":"x"}"#), u64::MAX);
    assert_eq!(floor(arn, r#"{"prompt":"x","max_gen_len":9}"#), 0);
    assert_eq!(floor(b"/v1/responses", r#"{"model":"m","input":"x"}"#), 0);
    assert_eq!(floor(b"/model/amazon.titan-embed-text-v2%3A0/invoke", r#"{"inputText":"x"}"#), 0);
}

#[test]
fn open_servers_get_the_field_that_they_read() {
    let changed = |path: &[u8], body: &str, clamp: Option<u64>| {
        let route = Route::of(b"POST", path).unwrap();
        let mut call = read_call(route.dialect, body.as_bytes()).unwrap();
        call.take_route(&route);
        let after = splice(body.as_bytes(), &call.edits(clamp, false));
        (call.output_limit, String::from_utf8(after).unwrap())
    };
    let twenty = Some(20);
    for (path, body, limit, after) in [
        ("/completion", r#"{"prompt":"x"}"#, None, r#"{"n_predict":20,"prompt":"x"}"#),
        ("/completion", r#"{"max_tokens":90}"#, Some(90), r#"{"n_predict":20,"max_tokens":20}"#),
        ("/completion", r#"{"max_completion_tokens":90}"#, Some(90), r#"{"n_predict":20,"max_completion_tokens":20}"#),
        ("/completion", r#"{"n_predict":-1,"max_tokens":5}"#, Some(5), r#"{"n_predict":20,"max_tokens":5}"#),
        (
            "/completion",
            r#"{"parameters":{"max_new_tokens":5}}"#,
            Some(5),
            r#"{"n_predict":20,"parameters":{"max_new_tokens":5}}"#,
        ),
        ("/generate", r#"{"inputs":"x"}"#, None, r#"{"parameters":{"max_new_tokens":20},"inputs":"x"}"#),
        ("/generate", r#"{"text":"x"}"#, None, r#"{"sampling_params":{"max_new_tokens":20},"text":"x"}"#),
        (
            "/generate",
            r#"{"text":"x","sampling_params":{}}"#,
            None,
            r#"{"text":"x","sampling_params":{"max_new_tokens":20}}"#,
        ),
        (
            "/generate",
            r#"{"input_ids":[1],"n_predict":5}"#,
            Some(5),
            r#"{"sampling_params":{"max_new_tokens":20},"input_ids":[1],"n_predict":5}"#,
        ),
    ] {
        assert_eq!(changed(path.as_bytes(), body, twenty), (limit, after.to_owned()), "{body}");
    }
    // What is stated where the server does not look is told where it does, also without a clamp.
    assert_eq!(changed(b"/completion", r#"{"max_tokens":5}"#, None).1, r#"{"n_predict":5,"max_tokens":5}"#);
    assert_eq!(changed(b"/completion", r#"{"n_predict":5}"#, None).1, r#"{"n_predict":5}"#);
}

#[test]
fn a_call_without_a_limit_gets_one_that_is_read_back() {
    let mut stated = std::collections::BTreeSet::new();
    for dialect in Dialect::ALL {
        for model in MODELS {
            let (call, after) = clamped(dialect, &json!({"model": model}), 20);
            if call.output_limit.is_some() || after == json!({"model": model}) {
                // It writes no text, or what it writes no request can limit; or nobody knows which field does.
                assert!(call.edits(Some(20), false).is_empty(), "{dialect:?}: {after}");
                continue;
            }
            stated.insert(dialect.name());
            assert_eq!(
                read_call(dialect, after.to_string().as_bytes()).unwrap().output_limit,
                Some(20),
                "{dialect:?}: {after}"
            );
        }
    }
    assert!(stated.len() >= 15, "{stated:?}: dialects that write text have a field for the limit");
}

#[test]
fn a_limit_that_is_stated_twice_is_refused_in_each_dialect() {
    for dialect in Dialect::ALL {
        let mut all = Vec::new();
        limits(dialect.keys(), &Path::new(), &mut all);
        for (within, name) in all {
            let twice = format!(r#"{{"{name}":1,"{name}":4096}}"#);
            let body = within.iter().rev().fold(twice, |inner, within| format!(r#"{{"{within}":{inner}}}"#));
            assert!(read_call(dialect, body.as_bytes()).is_err(), "{dialect:?} {body}");
        }
    }
}

/// The body of a call to a path, with its output clamped to 20 tokens.
fn sent(path: &str, body: &str) -> String {
    let route = Route::of(b"POST", path.as_bytes()).unwrap();
    let mut call = read_call(route.dialect, body.as_bytes()).unwrap();
    call.take_route(&route);
    String::from_utf8(splice(body.as_bytes(), &call.edits(Some(20), false))).unwrap()
}

#[test]
fn a_deployment_at_azure_gets_the_field_that_reasoning_models_take() {
    let v1 = "/openai/v1/chat/completions";
    assert_eq!(sent(v1, r#"{"model":"ours"}"#), r#"{"max_completion_tokens":20,"model":"ours"}"#);
    assert_eq!(sent(v1, r#"{"model":"ours","max_tokens":90}"#), r#"{"model":"ours","max_tokens":20}"#);
    // Others have that path too: their models have a vendor's name or a version.
    for other in ["meta-llama/llama-4", "openai.gpt-9:0"] {
        let body = format!(r#"{{"model":"{other}"}}"#);
        assert_eq!(sent(v1, &body), format!(r#"{{"max_tokens":20,"model":"{other}"}}"#));
    }
    assert_eq!(sent("/openai/v1/responses", r#"{"model":"ours"}"#), r#"{"max_output_tokens":20,"model":"ours"}"#);
}

#[test]
fn where_a_limit_would_be_refused_none_is_written() {
    let arn = "arn%3Aaws%3Abedrock%3Aus-east-1%3A1%3Aapplication-inference-profile%2Fabc";
    for (path, body) in [
        ("/v1/responses/compact", r#"{"model":"gpt-5","input":"x"}"#),
        ("/model/amazon.titan-embed-text-v2:0/invoke", r#"{"inputText":"x"}"#),
        ("/model/cohere.embed-v4:0/invoke", r#"{"texts":["x"],"max_tokens":90}"#),
        ("/model/stability.stable-image-core-v1:1/invoke", r#"{"prompt":"x"}"#),
        ("/model/amazon.nova-canvas-v1:0/invoke", r#"{"taskType":"TEXT_IMAGE"}"#),
        (&format!("/model/{arn}/invoke"), r#"{"inputText":"x"}"#),
    ] {
        assert_eq!(sent(path, body), body, "{path}");
    }
    let profiled = sent(&format!("/model/{arn}/invoke"), r#"{"anthropic_version":"a","messages":[]}"#);
    assert_eq!(profiled, r#"{"max_tokens":20,"anthropic_version":"a","messages":[]}"#);
}

#[test]
fn models_that_write_nothing_hold_nothing_and_images_are_asked_for() {
    for (model, body, images) in [
        ("amazon.titan-embed-text-v2:0", r#"{"inputText":"x"}"#, 0),
        ("amazon.nova-canvas-v1:0", r#"{"imageGenerationConfig":{"numberOfImages":3}}"#, 3),
        ("stability.stable-image-core-v1:1", r#"{"prompt":"x"}"#, 1),
    ] {
        let mut call = read_call(Dialect::BedrockInvoke, body.as_bytes()).unwrap();
        call.take_route(&Route::of(b"POST", format!("/model/{model}/invoke").as_bytes()).unwrap());
        assert_eq!((call.output_limit, call.asked.images), (Some(0), images), "{model}");
    }
}
