//! What the provider said, taken from its own object by rules that are written a second time here, apart from the code
//! that they test. A rule is by wire format and, where providers of one format differ, by what the object itself shows.

use serde_json::Value;

/// The figures that are compared: all input, of it read from and written to a cache; output, of it reasoning; seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    pub input: u64,
    pub cache_read: u64,
    pub cache_write: u64,
    pub output: u64,
    pub reasoning: u64,
    pub seconds: u64,
}

fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_f64().map(|number| number as u64)).or_else(|| value.as_str()?.parse().ok())
}

fn first(object: &Value, keys: &[&str]) -> Option<u64> {
    keys.iter().find_map(|key| number(&object[*key]))
}

fn most(object: &Value, keys: &[&str]) -> u64 {
    keys.iter().filter_map(|key| number(&object[*key])).max().unwrap_or(0)
}

/// Vertex tells the tokens of a text embedding with each prediction, not in one usage.
pub fn predictions(body: &Value) -> Option<Figures> {
    let predictions = body["predictions"].as_array()?;
    let tokens = predictions.iter().filter_map(|one| number(&one["embeddings"]["statistics"]["token_count"]));
    Some(Figures { input: tokens.sum(), ..Figures::default() }).filter(|figures| figures.input > 0)
}

/// What the row's `usage` comes to; `None`: it says nothing about tokens or seconds.
pub fn figures(api: &str, usage: &Value) -> Option<Figures> {
    if usage.is_null() {
        return None;
    }
    let figures = match api {
        "messages" => anthropic(usage),
        "generate_content" | "embeddings" if usage.get("promptTokenCount").is_some() || has(usage, "TokenCount") => {
            gemini(usage)
        }
        "interactions" => interactions(usage),
        "converse" => amazon(usage),
        "invoke_model" => invoked(usage),
        "cohere_chat" | "cohere_generate" => cohere(usage),
        "ollama_chat" | "ollama_generate" => Figures {
            input: most(usage, &["prompt_eval_count"]),
            output: most(usage, &["eval_count"]),
            ..Figures::default()
        },
        // Counting consumes nothing.
        "count_tokens" => return None,
        _ if usage.get("billed_units").is_some() => cohere(usage),
        _ if usage.get("prompt_eval_count").is_some() => {
            Figures { input: most(usage, &["prompt_eval_count"]), ..Figures::default() }
        }
        "embeddings" | "rerank" => Figures {
            input: first(usage, &["prompt_tokens", "input_tokens", "total_tokens"]).unwrap_or(0),
            ..Figures::default()
        },
        "audio" if usage.get("seconds").is_some() => {
            Figures { seconds: usage["seconds"].as_f64().map_or(0.0, f64::ceil) as u64, ..Figures::default() }
        }
        _ => openai(usage),
    };
    (figures != Figures::default()).then_some(figures)
}

fn has(usage: &Value, end: &str) -> bool {
    usage.as_object().is_some_and(|object| object.keys().any(|key| key.ends_with(end)))
}

/// OpenAI and its imitators: input includes the cache, output includes reasoning, unless the total says otherwise.
fn openai(usage: &Value) -> Figures {
    let prompt = most(usage, &["prompt_tokens", "input_tokens"]);
    let completion = most(usage, &["completion_tokens", "output_tokens"]);
    let total = most(usage, &["total_tokens"]);
    let details = |kinds: [&str; 2]| {
        let names =
            kinds.into_iter().flat_map(|kind| [format!("{kind}_tokens_details"), format!("{kind}_token_details")]);
        names.map(|name| &usage[name.as_str()]).find(|value| value.is_object()).unwrap_or(&Value::Null)
    };
    let (inner, outer) = (details(["prompt", "input"]), details(["completion", "output"]));
    let flat = ["prompt_cache_hit_tokens", "cached_tokens", "cache_read_input_tokens", "num_cached_tokens"];
    let cached = first(inner, &["cached_tokens"]).unwrap_or_else(|| most(usage, &flat));
    let writes = ["cache_write_tokens", "cache_creation_input_tokens", "cache_creation_tokens"];
    let written = first(inner, &writes).unwrap_or_else(|| most(usage, &["cache_creation_input_tokens"]));
    let thoughts = ["reasoning_tokens", "thinking_tokens"];
    let reasoning = first(outer, &thoughts).unwrap_or_else(|| most(usage, &["reasoning_tokens"]));
    let audio = most(inner, &["audio_tokens"]);
    let gap = total.saturating_sub(prompt + completion);
    // What the total has beyond both is reasoning (xAI), sound (Mistral) or the cache; else thoughts (Gemini). More
    // thoughts than were written are not in what was written (Gemini behind Vercel's gateway).
    let (input, output, reasoning) = if gap == 0 {
        (prompt, if reasoning > completion { completion + reasoning } else { completion }, reasoning)
    } else if gap == reasoning {
        (prompt, completion + gap, reasoning)
    } else if gap == audio || gap == cached + written {
        (prompt + gap, completion, reasoning)
    } else {
        (prompt, completion + gap, reasoning.max(gap))
    };
    let cache_write = written.min(input);
    // Grok at Azure says more cached tokens than there were in the prompt.
    let cache_read = cached.min(input - cache_write);
    Figures { input, cache_read, cache_write, output, reasoning: reasoning.min(output), ..Figures::default() }
}

/// Input excludes both caches; the last word on each figure, which is never smaller.
fn anthropic(usage: &Value) -> Figures {
    let (start, delta) = (&usage["message_start"], &usage["message_delta"]);
    let words = if start.is_object() || delta.is_object() { vec![start, delta] } else { vec![usage] };
    let largest = |key: &str| words.iter().map(|word| most(word, &[key])).max().unwrap_or(0);
    let (read, written) = (largest("cache_read_input_tokens"), largest("cache_creation_input_tokens"));
    let last = words.last().unwrap_or(&usage);
    let thought = most(&last["output_tokens_details"], &["thinking_tokens", "reasoning_tokens"]);
    let output = number(&last["output_tokens"]).unwrap_or(0);
    // Summaries of the conversation are billed, and stand in the iterations only.
    let steps = last["iterations"].as_array().into_iter().flatten().filter(|step| step["type"] == "compaction");
    let summaries: Vec<Figures> = steps.map(anthropic).collect();
    let more = |figure: fn(&Figures) -> u64| summaries.iter().map(figure).sum::<u64>();
    let total = |word: &Value| {
        ["input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"].map(|key| most(word, &[key]))
    };
    let (first, now) = (total(words[0]), total(last));
    // Less input, and so much more of it cached: the last word tells the parts anew.
    let anew = now[0] < first[0] && now.iter().sum::<u64>() >= first.iter().sum();
    let fresh = if anew { now[0] } else { largest("input_tokens") };
    Figures {
        input: fresh + read + written + more(|step| step.input),
        cache_read: read + more(|step| step.cache_read),
        cache_write: written + more(|step| step.cache_write),
        output: output + more(|step| step.output),
        reasoning: thought,
        ..Figures::default()
    }
}

/// The prompt includes the cache; what tools read comes beside it; candidates exclude thoughts.
fn gemini(usage: &Value) -> Figures {
    let thoughts = most(usage, &["thoughtsTokenCount"]);
    let input = most(usage, &["promptTokenCount"]) + most(usage, &["toolUsePromptTokenCount"]);
    Figures {
        input,
        cache_read: most(usage, &["cachedContentTokenCount"]),
        output: most(usage, &["candidatesTokenCount"]) + thoughts,
        reasoning: thoughts,
        ..Figures::default()
    }
}

fn interactions(usage: &Value) -> Figures {
    let thoughts = most(usage, &["total_thought_tokens"]);
    Figures {
        input: most(usage, &["total_input_tokens"]) + most(usage, &["total_tool_use_tokens"]),
        cache_read: most(usage, &["total_cached_tokens"]),
        output: most(usage, &["total_output_tokens"]) + thoughts,
        reasoning: thoughts,
        ..Figures::default()
    }
}

/// Input excludes both caches.
fn amazon(usage: &Value) -> Figures {
    let read = most(usage, &["cacheReadInputTokens", "cacheReadInputTokenCount"]);
    let written = most(usage, &["cacheWriteInputTokens", "cacheWriteInputTokenCount"]);
    Figures {
        input: most(usage, &["inputTokens", "inputTokenCount"]) + read + written,
        cache_read: read,
        cache_write: written,
        output: most(usage, &["outputTokens", "outputTokenCount"]),
        ..Figures::default()
    }
}

/// Whatever the model family says; headers and metrics where it says nothing.
fn invoked(usage: &Value) -> Figures {
    let header = |name: &str| most(usage, &[&format!("x-amzn-bedrock-{name}-token-count")]);
    if has(usage, "-token-count") {
        let (read, written) = (header("cache-read-input"), header("cache-write-input"));
        let (input, output) = (header("input") + read + written, header("output"));
        return Figures { input, cache_read: read, cache_write: written, output, ..Figures::default() };
    }
    if usage.get("billed_units").is_some() {
        return cohere(usage);
    }
    if usage.get("message_start").is_some() || usage.get("input_tokens").is_some() {
        return anthropic(usage);
    }
    if usage.get("prompt_tokens").is_some() {
        return openai(usage);
    }
    if let Some(results) = usage["results"].as_array() {
        let output = results.iter().filter_map(number).sum();
        return Figures { input: most(usage, &["inputTextTokenCount"]), output, ..Figures::default() };
    }
    if usage.get("prompt_token_count").is_some() {
        let (input, output) = (most(usage, &["prompt_token_count"]), most(usage, &["generation_token_count"]));
        return Figures { input, output, ..Figures::default() };
    }
    amazon(usage)
}

/// What the model worked goes before what is billed; images' tokens are inside the input, but for embeddings.
fn cohere(usage: &Value) -> Figures {
    let worked = Some(&usage["tokens"]).filter(|tokens| most(tokens, &["input_tokens", "output_tokens"]) > 0);
    let told = worked.unwrap_or(&usage["billed_units"]);
    let output = most(told, &["output_tokens"]);
    let images = if output == 0 { most(told, &["image_tokens"]) } else { 0 };
    let input = most(told, &["input_tokens"]) + images;
    Figures {
        input,
        cache_read: most(usage, &["cached_tokens"]).min(input),
        output,
        reasoning: most(told, &["reasoning_tokens"]),
        ..Figures::default()
    }
}
