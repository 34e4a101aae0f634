use super::{
    Arguments, CLAUDE, Calls, Dialect, FAMILIES, Family, GPT, HARMONY, Host, Manner, Name, OTHER, QWEN, QWEN_XML,
    UNTHINKING,
};

fn in_chat(model: &str) -> Manner {
    Manner::of(model, Dialect::OpenAiChat, Host::Any)
}

#[test]
fn the_special_goes_before_the_general() {
    for (position, (name, family)) in FAMILIES.iter().enumerate() {
        assert_eq!(Family::of(&Name::of(name)), *family, "{name}, line {position}, is hidden by one before it");
    }
}

#[test]
fn models_are_known_by_whatever_name() {
    for (model, manner) in [
        ("gpt-4o", GPT),
        ("openai/gpt-4.1-mini", GPT),
        ("gpt-5-chat-latest", GPT),
        ("o3-mini", HARMONY),
        ("openai/gpt-5.2", UNTHINKING),
        ("us.anthropic.claude-3-7-sonnet-20250219-v1:0", CLAUDE),
        ("Qwen/Qwen3-8B", QWEN),
        ("Qwen/Qwen3.5-9B", QWEN_XML),
        ("my-model", OTHER),
        ("codex-mini-latest", Manner { end: 6, ..HARMONY }),
        ("OpenAI/Codex-mini", Manner { end: 6, ..HARMONY }),
    ] {
        assert_eq!(in_chat(model), manner, "{model}");
    }
}

/// What a family writes for calls is another number in responses, for each of its models.
#[test]
fn responses_are_counted_by_the_family_too() {
    for (model, end, first_call) in [
        ("gpt-4o", 1, 8),
        ("o4-mini", 9, 13),
        ("gpt-5.1", 4, 11),
        ("gpt-5.1-codex-mini", 6, 13),
        ("codex-mini-latest", 6, 13),
        ("xai/grok-4-fast", 0, 4),
        ("qwen-max", 1, 15),
    ] {
        let manner = Manner::of(model, Dialect::OpenAiResponses, Host::Any);
        assert_eq!((manner.end, manner.first_call), (end, first_call), "{model}");
    }
    assert_eq!(Manner::of("deepseek-chat", Dialect::OpenAiResponses, Host::Any).once, 82);
}

#[test]
fn hosts_count_the_same_model_otherwise() {
    let ends = |model, host| Manner::of(model, Dialect::OpenAiChat, host).end;
    assert_eq!((ends("gpt-4o", Host::Any), ends("gpt-4o", Host::Azure), ends("gpt-35-turbo", Host::Azure)), (0, 1, 0));
    let calls = |model, dialect, host| {
        let manner = Manner::of(model, dialect, host);
        (manner.calls, manner.once, manner.first_call)
    };
    for (model, dialect, host, expected) in [
        ("gemini-2.5-pro", Dialect::GeminiGenerate, Host::Any, (Calls::Words, 0, 0)),
        ("gemini-3-pro", Dialect::GeminiGenerate, Host::Any, (Calls::Words, 0, 4)),
        ("google/gemini-3-pro", Dialect::OpenAiChat, Host::Any, (Calls::Words, 0, 4)),
        ("gemini-2.5-pro", Dialect::GeminiGenerate, Host::GeminiApi, (Calls::Notation, 1, 7)),
        ("gemini-2.5-pro", Dialect::OpenAiChat, Host::GeminiApi, (Calls::Notation, 1, 7)),
        ("gemini-2.0-flash", Dialect::GeminiGenerate, Host::GeminiApi, (Calls::Words, 0, 0)),
    ] {
        assert_eq!(calls(model, dialect, host), expected, "{model} {dialect:?} {host:?}");
    }
}

#[test]
fn thoughts_are_ended_by_a_mark_that_counts() {
    let deepseek = in_chat("deepseek-v4-flash");
    assert_eq!([false, true].map(|thought| deepseek.unseen(0, &Arguments::default(), thought)), [0, 1]);
}

#[test]
fn what_is_not_seen_grows_with_the_calls() {
    let none = Arguments::default();
    assert_eq!([0, 1, 3].map(|calls| GPT.unseen(calls, &none, false)), [0, 7, 25]);
    assert_eq!(UNTHINKING.unseen(0, &none, true), 9);
    assert_eq!(OTHER.unseen(5, &none, true), 0, "of what nobody knows nothing is made up");
    let mut arguments = none;
    arguments.push(None, r#"{"city":"Tokyo","country":"Japan"}"#);
    assert_eq!(in_chat("deepseek-v4-flash").unseen(1, &arguments, false), 19 + 8 + 2 * 10);
}
