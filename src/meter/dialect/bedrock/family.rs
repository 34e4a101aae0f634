//! Which field limits the output of a model that InvokeModel passes a body on to, and whether it writes text at all.
//!
//! Amazon refuses keys that a family does not know ("extraneous key"), so a limit is only written where the family is known:
//! by the model's name, or, where that is an ARN which does not tell (an application's inference profile, provisioned
//! throughput, an imported model), by keys of the body that one family alone has.

use crate::meter::dialect::Field;
use crate::meter::json;

/// Parts of the names of models that write no text: embeddings, rerankers, images and films (Amazon Bedrock, "Supported
/// foundation models").
const WORDLESS: [&str; 13] = [
    "embed",
    "rerank",
    "titan-image",
    "nova-canvas",
    "nova-reel",
    "nova-sonic",
    "nova-2-sonic",
    "stability.",
    "stable-",
    "sdxl",
    "luma.",
    "ray-v2",
    "marengo",
];

/// Parts of the names of models that write, and the field that limits it (Amazon Bedrock, "Inference request parameters and
/// response fields for foundation models"). The first that fits decides.
const FAMILIES: [(&str, Field); 21] = [
    ("titan", (Some("textGenerationConfig"), "maxTokenCount")),
    ("nova", (Some("inferenceConfig"), "maxTokens")),
    ("llama", (None, "max_gen_len")),
    ("claude", (None, "max_tokens")),
    ("anthropic.", (None, "max_tokens")),
    ("cohere.", (None, "max_tokens")),
    ("command", (None, "max_tokens")),
    ("mistral", (None, "max_tokens")),
    ("mixtral", (None, "max_tokens")),
    ("ai21.j2", (None, "maxTokens")),
    ("jamba", (None, "max_tokens")),
    ("deepseek", (None, "max_tokens")),
    ("gpt-oss", (None, "max_completion_tokens")),
    ("qwen", (None, "max_tokens")),
    ("palmyra", (None, "max_tokens")),
    ("minimax", (None, "max_tokens")),
    ("kimi", (None, "max_tokens")),
    ("glm", (None, "max_tokens")),
    ("gemma", (None, "max_tokens")),
    ("nemotron", (None, "max_tokens")),
    ("pegasus", (None, "maxOutputTokens")),
];

/// Keys of a body that has something written.
const WRITING: [&str; 7] = ["messages", "prompt", "message", "inputs", "input", "max_tokens", "parameters"];

/// Whether a model may write text when it is sent this body: any that is not known to do something else. What an account has
/// named itself may be called anything (`arn:aws:sagemaker:…:endpoint/embedded-chat`): there the body has its say.
pub fn writes_text(model: &str, body: &str) -> bool {
    let named = WORDLESS.iter().any(|part| model.contains(part));
    !named || is_own_name(model) && WRITING.iter().any(|key| has(body, key))
}

/// Whether a model is an ARN that an account has named: an endpoint (Amazon Bedrock, "Marketplace"), a model or a profile of
/// its own.
fn is_own_name(model: &str) -> bool {
    // arn:partition:service:region:account:kind/name
    model.starts_with("arn:") && ![":foundation-model/", ":inference-profile/"].iter().any(|kind| model.contains(kind))
}

/// Whether a model answers with images.
pub fn makes_images(model: &str) -> bool {
    ["titan-image", "nova-canvas", "stability.", "stable-", "sdxl"].iter().any(|part| model.contains(part))
}

/// The field that surely limits what `model` writes when it is sent this body. `None`: none may be written.
pub fn limit_field(model: &str, body: &str) -> Option<Field> {
    if !writes_text(model, body) {
        return None;
    }
    let named = FAMILIES.iter().find(|(part, _)| model.contains(part)).map(|(_, field)| *field);
    match named.filter(|_| !is_own_name(model)) {
        // Claude's first format, which has a prompt.
        Some((None, "max_tokens")) if has(body, "max_tokens_to_sample") => Some((None, "max_tokens_to_sample")),
        // Nova reads either.
        Some((within @ Some("inferenceConfig"), _)) if nova_has_other(body) => Some((within, "max_new_tokens")),
        Some(field) => Some(field),
        None => by_body(body),
    }
}

/// By keys that one family alone has, or the conversation that all others take in OpenAI's form.
fn by_body(body: &str) -> Option<Field> {
    let keys: [(&str, Field); 8] = [
        ("anthropic_version", (None, "max_tokens")),
        ("max_tokens_to_sample", (None, "max_tokens_to_sample")),
        ("textGenerationConfig", (Some("textGenerationConfig"), "maxTokenCount")),
        ("schemaVersion", (Some("inferenceConfig"), "maxTokens")),
        ("inferenceConfig", (Some("inferenceConfig"), "maxTokens")),
        ("max_gen_len", (None, "max_gen_len")),
        ("max_completion_tokens", (None, "max_completion_tokens")),
        ("max_tokens", (None, "max_tokens")),
    ];
    let (_, field) = keys.into_iter().find(|(key, _)| has(body, key))?;
    match field {
        (within @ Some("inferenceConfig"), _) if nova_has_other(body) => Some((within, "max_new_tokens")),
        field => Some(field),
    }
}

fn has(body: &str, key: &str) -> bool {
    json::fields(body, [key]).is_some_and(|[value]| value.is_some())
}

fn nova_has_other(body: &str) -> bool {
    let config = json::fields(body, ["inferenceConfig"]).and_then(|[config]| config);
    let told = config.and_then(|raw| json::fields(raw, ["maxTokens", "max_new_tokens"]));
    matches!(told, Some([None, Some(_)]))
}

#[cfg(test)]
mod tests {
    use super::{limit_field, writes_text};

    #[test]
    fn what_an_account_calls_its_own_tells_nothing() {
        let endpoint = "arn:aws:sagemaker:us-east-1:123456789012:endpoint/embedded-chat";
        let (chat, texts) = (r#"{"messages":[],"max_tokens":5}"#, r#"{"texts":["x"],"input_type":"search_query"}"#);
        for (model, body, writes) in [
            (endpoint, chat, true),
            (endpoint, r#"{"inputs":"x","parameters":{}}"#, true),
            (endpoint, texts, false),
            ("arn:aws:bedrock:us-east-1:1:custom-model-deployment/rerank-luma.", chat, true),
            ("arn:aws:bedrock:us-east-1::foundation-model/cohere.embed-v4:0", chat, false),
            ("arn:aws:bedrock:us-east-1:1:inference-profile/us.cohere.embed-v4:0", chat, false),
            ("cohere.embed-v4:0", chat, false),
        ] {
            assert_eq!(writes_text(model, body), writes, "{model} {body}");
        }
        assert_eq!(limit_field(endpoint, chat).map(|(_, name)| name), Some("max_tokens"));
        let llama = "arn:aws:sagemaker:us-east-1:123456789012:endpoint/my-llama";
        assert_eq!(limit_field(llama, r#"{"inputs":"x"}"#), None, "nobody knows what it heeds");
    }

    #[test]
    fn a_limit_is_written_only_where_the_family_is_known_to_take_it() {
        let arn = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc123";
        for (model, body, field) in [
            ("amazon.titan-text-express-v1", r#"{"inputText":"x"}"#, Some("maxTokenCount")),
            ("amazon.titan-embed-text-v2:0", r#"{"inputText":"x"}"#, None),
            ("amazon.titan-image-generator-v2:0", r#"{"taskType":"TEXT_IMAGE"}"#, None),
            ("us.amazon.nova-lite-v1:0", r#"{"messages":[]}"#, Some("maxTokens")),
            ("amazon.nova-lite-v1:0", r#"{"inferenceConfig":{"max_new_tokens":9}}"#, Some("max_new_tokens")),
            ("amazon.nova-canvas-v1:0", r#"{"taskType":"TEXT_IMAGE"}"#, None),
            ("cohere.command-r-v1:0", r#"{"message":"x"}"#, Some("max_tokens")),
            ("cohere.embed-english-v3", r#"{"texts":["x"]}"#, None),
            ("cohere.rerank-v3-5:0", r#"{"query":"x"}"#, None),
            ("stability.stable-image-core-v1:1", r#"{"prompt":"x"}"#, None),
            ("us.meta.llama3-3-70b-instruct-v1:0", r#"{"prompt":"x"}"#, Some("max_gen_len")),
            ("anthropic.claude-v2", r#"{"prompt":"x","max_tokens_to_sample":9}"#, Some("max_tokens_to_sample")),
            ("openai.gpt-oss-120b-1:0", r#"{"messages":[]}"#, Some("max_completion_tokens")),
            (
                "arn:aws:bedrock:us-east-1:1:inference-profile/us.anthropic.claude-x",
                r#"{"messages":[]}"#,
                Some("max_tokens"),
            ),
            (arn, r#"{"anthropic_version":"bedrock-2023-05-31","messages":[]}"#, Some("max_tokens")),
            (arn, r#"{"schemaVersion":"messages-v1","messages":[]}"#, Some("maxTokens")),
            (arn, r#"{"prompt":"x","max_gen_len":9}"#, Some("max_gen_len")),
            (arn, r#"{"inputText":"x"}"#, None),
            (arn, r#"{"prompt":"x"}"#, None),
            (arn, r#"{"messages":[]}"#, None),
        ] {
            assert_eq!(limit_field(model, body).map(|(_, name)| name), field, "{model} {body}");
        }
    }
}
