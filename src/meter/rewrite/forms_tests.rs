//! Streams and answers of every dialect that carries text, as their providers send them, and what clients hear in them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::Expected;
use crate::meter::dialect::Dialect;
use crate::meter::eventstream;
use crate::meter::framing::{Framing, Piece};
use crate::meter::{sse, values};

/// How events are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framed {
    Events,
    Lines,
    Array,
    /// Amazon's messages, whose kind is the one key of the event.
    Messages,
    /// Amazon's messages, in which InvokeModel wraps what a model says.
    Chunks,
}

/// A kind of text in a stream: an event with a piece of it, and that piece in an event.
#[derive(Clone, Copy)]
pub struct Voice {
    pub name: &'static str,
    pub says: fn(&str) -> Value,
    pub heard: fn(&Value) -> Option<&str>,
}

/// A form of stream.
#[derive(Clone, Copy)]
pub struct Form {
    pub dialect: Dialect,
    pub name: &'static str,
    pub framed: Framed,
    pub voices: &'static [Voice],
    /// What ends it; told all that was said by the last voice.
    pub closing: fn(&str) -> Vec<Value>,
    /// Each event has all of the text so far.
    pub repeats: bool,
}

const fn voice(name: &'static str, says: fn(&str) -> Value, heard: fn(&Value) -> Option<&str>) -> Voice {
    Voice { name, says, heard }
}

fn chat(delta: Value) -> Value {
    json!({"id": "c1", "object": "chat.completion.chunk", "created": 7, "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": null}]})
}

fn item(kind: &str, said: &str) -> Value {
    json!({"type": kind, "sequence_number": 0, "item_id": "i", "output_index": 1, "content_index": 0, "delta": said, "logprobs": []})
}

fn of_kind<'a>(event: &'a Value, key: &str, kind: &str, at: &str) -> Option<&'a str> {
    event.pointer(at)?.as_str().filter(|_| event[key] == kind)
}

fn block(index: u32, delta: Value) -> Value {
    json!({"type": "content_block_delta", "index": index, "delta": delta})
}

fn candidate(part: Value) -> Value {
    json!({"candidates": [{"content": {"role": "model", "parts": [part]}, "index": 0}], "modelVersion": "m"})
}

fn part(event: &Value, thought: bool) -> Option<&str> {
    let part = event.pointer("/candidates/0/content/parts/0")?;
    part["text"].as_str().filter(|_| (part["thought"] == true) == thought)
}

fn converse(index: u32, delta: Value) -> Value {
    json!({"contentBlockDelta": {"contentBlockIndex": index, "delta": delta, "p": "abcd"}})
}

fn over_by_converse(_: &str) -> Vec<Value> {
    vec![
        json!({"contentBlockStop": {"contentBlockIndex": 1}}),
        json!({"messageStop": {"stopReason": "end_turn"}}),
        json!({"metadata": {"usage": {"inputTokens": 1}}}),
    ]
}

fn spoken(event: &Value) -> Option<&str> {
    event.pointer("/message/content")?.as_str()
}

/// All of them.
pub const FORMS: &[Form] = &[
    Form {
        dialect: Dialect::OpenAiChat,
        name: "",
        framed: Framed::Events,
        voices: &[
            voice(
                "thought",
                |said| chat(json!({"reasoning_content": said})),
                |event| event.pointer("/choices/0/delta/reasoning_content")?.as_str(),
            ),
            voice(
                "text",
                |said| chat(json!({"content": said})),
                |event| event.pointer("/choices/0/delta/content")?.as_str(),
            ),
            voice(
                "call",
                |said| chat(json!({"tool_calls": [{"index": 0, "function": {"arguments": said}}]})),
                |event| event.pointer("/choices/0/delta/tool_calls/0/function/arguments")?.as_str(),
            ),
        ],
        closing: |_| {
            let mut last = chat(json!({}));
            last["choices"][0]["finish_reason"] = json!("stop");
            vec![last, json!({"id": "c1", "choices": [], "usage": {"prompt_tokens": 1}}), json!("[DONE]")]
        },
        repeats: false,
    },
    Form {
        dialect: Dialect::OpenAiCompletions,
        name: "",
        framed: Framed::Events,
        voices: &[voice(
            "text",
            |said| json!({"id": "c", "object": "text_completion", "choices": [{"text": said, "index": 0, "finish_reason": null}]}),
            |event| event.pointer("/choices/0/text")?.as_str(),
        )],
        closing: |_| vec![json!({"choices": [{"text": "", "index": 0, "finish_reason": "stop"}]}), json!("[DONE]")],
        repeats: false,
    },
    Form {
        dialect: Dialect::OpenAiResponses,
        name: "",
        framed: Framed::Events,
        voices: &[
            voice(
                "thought",
                |said| json!({"type": "response.reasoning_summary_text.delta", "sequence_number": 0, "item_id": "r", "output_index": 0, "summary_index": 0, "delta": said}),
                |event| of_kind(event, "type", "response.reasoning_summary_text.delta", "/delta"),
            ),
            voice(
                "call",
                |said| json!({"type": "response.function_call_arguments.delta", "sequence_number": 0, "item_id": "f", "output_index": 2, "delta": said}),
                |event| of_kind(event, "type", "response.function_call_arguments.delta", "/delta"),
            ),
            voice(
                "text",
                |said| item("response.output_text.delta", said),
                |event| of_kind(event, "type", "response.output_text.delta", "/delta"),
            ),
        ],
        closing: |said| {
            let done = json!({"type": "message", "id": "i", "content": [{"type": "output_text", "text": said, "annotations": []}]});
            vec![
                json!({"type": "response.output_text.done", "sequence_number": 0, "item_id": "i", "output_index": 1, "content_index": 0, "text": said}),
                json!({"type": "response.output_item.done", "sequence_number": 0, "output_index": 1, "item": done}),
                json!({"type": "response.completed", "sequence_number": 0, "response": {"id": "r", "output": [done]}}),
            ]
        },
        repeats: false,
    },
    Form {
        dialect: Dialect::AnthropicMessages,
        name: "",
        framed: Framed::Events,
        voices: MESSAGES,
        closing: |_| {
            vec![
                json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}}),
                json!({"type": "message_stop"}),
            ]
        },
        repeats: false,
    },
    Form {
        dialect: Dialect::AnthropicComplete,
        name: "",
        framed: Framed::Events,
        voices: &[voice(
            "text",
            |said| json!({"type": "completion", "completion": said, "stop_reason": null, "model": "m"}),
            |event| event["completion"].as_str(),
        )],
        closing: |_| vec![json!({"type": "completion", "completion": "", "stop_reason": "stop_sequence"})],
        repeats: false,
    },
    Form {
        dialect: Dialect::GeminiGenerate,
        name: "events",
        framed: Framed::Events,
        voices: GOOGLE,
        closing: |_| {
            vec![
                json!({"candidates": [{"content": {"parts": [{"text": ""}]}, "finishReason": "STOP", "index": 0}], "usageMetadata": {"totalTokenCount": 9}}),
            ]
        },
        repeats: false,
    },
    // Its last word of why it ends is missing, so that what is held back leaves before the bracket.
    Form {
        dialect: Dialect::GeminiGenerate,
        name: "array",
        framed: Framed::Array,
        voices: GOOGLE,
        closing: |_| vec![json!({"usageMetadata": {"totalTokenCount": 9}})],
        repeats: false,
    },
    Form {
        dialect: Dialect::GeminiInteractions,
        name: "",
        framed: Framed::Events,
        voices: &[
            voice(
                "thought",
                |said| json!({"event_type": "step.delta", "index": 0, "delta": {"type": "thought_summary", "content": {"type": "text", "text": said}}}),
                |event| event.pointer("/delta/content/text")?.as_str(),
            ),
            voice(
                "call",
                |said| json!({"event_type": "step.delta", "index": 2, "delta": {"type": "function_call", "arguments": said}}),
                |event| event.pointer("/delta/arguments")?.as_str(),
            ),
            voice(
                "text",
                |said| json!({"event_type": "step.delta", "index": 1, "delta": {"type": "text", "text": said}}),
                |event| event.pointer("/delta/text")?.as_str(),
            ),
        ],
        closing: |said| {
            let steps = json!([{"type": "model_output", "content": [{"type": "text", "text": said}]}]);
            let over = json!({"event_type": "interaction.completed", "interaction": {"id": "v1_i", "status": "completed", "steps": steps}});
            vec![json!({"event_type": "step.stop", "index": 1}), over, json!("[DONE]")]
        },
        repeats: false,
    },
    Form {
        dialect: Dialect::BedrockConverse,
        name: "",
        framed: Framed::Messages,
        voices: CONVERSE,
        closing: over_by_converse,
        repeats: false,
    },
    Form {
        dialect: Dialect::BedrockInvoke,
        name: "claude",
        framed: Framed::Chunks,
        voices: MESSAGES,
        closing: |_| {
            vec![
                json!({"type": "content_block_stop", "index": 1}),
                json!({"type": "message_stop", "amazon-bedrock-invocationMetrics": {"inputTokenCount": 1}}),
            ]
        },
        repeats: false,
    },
    Form {
        dialect: Dialect::BedrockInvoke,
        name: "nova",
        framed: Framed::Chunks,
        voices: CONVERSE,
        closing: over_by_converse,
        repeats: false,
    },
    Form {
        dialect: Dialect::BedrockInvoke,
        name: "llama",
        framed: Framed::Chunks,
        voices: &[voice(
            "text",
            |said| json!({"generation": said, "stop_reason": null}),
            |event| event["generation"].as_str(),
        )],
        closing: |_| vec![json!({"generation": "", "stop_reason": "stop", "generation_token_count": 3})],
        repeats: false,
    },
    Form {
        dialect: Dialect::BedrockInvoke,
        name: "mistral",
        framed: Framed::Chunks,
        voices: &[voice(
            "text",
            |said| json!({"outputs": [{"text": said, "stop_reason": null}]}),
            |event| event.pointer("/outputs/0/text")?.as_str(),
        )],
        closing: |_| vec![json!({"outputs": [{"text": "", "stop_reason": "stop"}]})],
        repeats: false,
    },
    Form {
        dialect: Dialect::CohereChat,
        name: "second version",
        framed: Framed::Events,
        voices: &[
            voice(
                "plan",
                |said| json!({"type": "tool-plan-delta", "delta": {"message": {"tool_plan": said}}}),
                |event| event.pointer("/delta/message/tool_plan")?.as_str(),
            ),
            voice(
                "call",
                |said| json!({"type": "tool-call-delta", "index": 1, "delta": {"message": {"tool_calls": {"function": {"arguments": said}}}}}),
                |event| event.pointer("/delta/message/tool_calls/function/arguments")?.as_str(),
            ),
            voice(
                "text",
                |said| json!({"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": said}}}}),
                |event| event.pointer("/delta/message/content/text")?.as_str(),
            ),
        ],
        closing: |_| {
            vec![
                json!({"type": "content-end", "index": 0}),
                json!({"type": "message-end", "delta": {"finish_reason": "COMPLETE"}}),
                json!("[DONE]"),
            ]
        },
        repeats: false,
    },
    Form {
        dialect: Dialect::CohereChat,
        name: "first version",
        framed: Framed::Lines,
        voices: &[voice(
            "text",
            |said| json!({"is_finished": false, "event_type": "text-generation", "text": said}),
            |event| event["text"].as_str(),
        )],
        closing: |said| {
            vec![
                json!({"is_finished": true, "event_type": "stream-end", "response": {"text": said, "chat_history": [{"role": "CHATBOT", "message": said}]}}),
            ]
        },
        repeats: false,
    },
    Form {
        dialect: Dialect::CohereGenerate,
        name: "",
        framed: Framed::Lines,
        voices: &[voice("text", |said| json!({"is_finished": false, "text": said}), |event| event["text"].as_str())],
        closing: |said| {
            vec![
                json!({"is_finished": true, "finish_reason": "COMPLETE", "response": {"generations": [{"text": said}]}}),
            ]
        },
        repeats: false,
    },
    Form {
        dialect: Dialect::OllamaChat,
        name: "",
        framed: Framed::Lines,
        voices: &[
            voice(
                "thought",
                |said| json!({"model": "m", "message": {"role": "assistant", "content": "", "thinking": said}, "done": false}),
                |event| event.pointer("/message/thinking")?.as_str(),
            ),
            voice(
                "text",
                |said| json!({"model": "m", "message": {"role": "assistant", "content": said}, "done": false}),
                spoken,
            ),
        ],
        closing: |_| {
            vec![
                json!({"model": "m", "message": {"role": "assistant", "content": ""}, "done": true, "done_reason": "stop"}),
            ]
        },
        repeats: false,
    },
    Form {
        dialect: Dialect::OllamaGenerate,
        name: "",
        framed: Framed::Lines,
        voices: &[voice(
            "text",
            |said| json!({"model": "m", "response": said, "done": false}),
            |event| event["response"].as_str(),
        )],
        closing: |_| vec![json!({"model": "m", "response": "", "done": true, "context": [1, 2, 3]})],
        repeats: false,
    },
    Form {
        dialect: Dialect::DashScope,
        name: "in pieces",
        framed: Framed::Events,
        voices: DASHSCOPE,
        closing: |_| {
            vec![
                json!({"output": {"choices": [{"message": {"role": "assistant", "content": ""}, "finish_reason": "stop"}]}}),
            ]
        },
        repeats: false,
    },
    Form {
        dialect: Dialect::DashScope,
        name: "all so far",
        framed: Framed::Events,
        voices: DASHSCOPE,
        closing: |said| {
            vec![
                json!({"output": {"choices": [{"message": {"role": "assistant", "content": said}, "finish_reason": "stop"}]}}),
            ]
        },
        repeats: true,
    },
    Form {
        dialect: Dialect::Generate,
        name: "TGI",
        framed: Framed::Events,
        voices: &[voice(
            "text",
            |said| json!({"index": 1, "token": {"id": 1, "text": said, "special": false}, "generated_text": null, "details": null}),
            |event| event.pointer("/token/text")?.as_str().filter(|_| event["token"]["special"] == false),
        )],
        closing: |said| {
            vec![
                json!({"token": {"id": 2, "text": "</s>", "special": true}, "generated_text": said, "details": {"finish_reason": "eos_token", "generated_tokens": 3}}),
            ]
        },
        repeats: false,
    },
    Form {
        dialect: Dialect::Generate,
        name: "SGLang",
        framed: Framed::Events,
        voices: &[voice(
            "text",
            |said| json!({"text": said, "meta_info": {"id": "g", "finish_reason": null}}),
            |event| event["text"].as_str(),
        )],
        closing: |said| {
            vec![json!({"text": said, "meta_info": {"id": "g", "finish_reason": {"type": "stop"}}}), json!("[DONE]")]
        },
        repeats: true,
    },
    Form {
        dialect: Dialect::Generate,
        name: "llama.cpp",
        framed: Framed::Events,
        voices: &[voice(
            "text",
            |said| json!({"index": 0, "content": said, "tokens": [], "stop": false}),
            |event| event["content"].as_str(),
        )],
        closing: |_| vec![json!({"index": 0, "content": "", "stop": true, "prompt": "hello"})],
        repeats: false,
    },
    Form {
        dialect: Dialect::OpenAiTranscription,
        name: "",
        framed: Framed::Events,
        voices: &[voice(
            "text",
            |said| json!({"type": "transcript.text.delta", "delta": said}),
            |event| of_kind(event, "type", "transcript.text.delta", "/delta"),
        )],
        closing: |said| vec![json!({"type": "transcript.text.done", "text": said})],
        repeats: false,
    },
];

const MESSAGES: &[Voice] = &[
    voice(
        "thought",
        |said| block(0, json!({"type": "thinking_delta", "thinking": said})),
        |event| event.pointer("/delta/thinking")?.as_str(),
    ),
    voice(
        "call",
        |said| block(2, json!({"type": "input_json_delta", "partial_json": said})),
        |event| event.pointer("/delta/partial_json")?.as_str(),
    ),
    voice(
        "text",
        |said| block(1, json!({"type": "text_delta", "text": said})),
        |event| event.pointer("/delta/text")?.as_str(),
    ),
];
const GOOGLE: &[Voice] = &[
    voice("thought", |said| candidate(json!({"text": said, "thought": true})), |event| part(event, true)),
    voice("text", |said| candidate(json!({"text": said})), |event| part(event, false)),
];
const CONVERSE: &[Voice] = &[
    voice(
        "thought",
        |said| converse(0, json!({"reasoningContent": {"text": said}})),
        |event| event.pointer("/contentBlockDelta/delta/reasoningContent/text")?.as_str(),
    ),
    voice(
        "call",
        |said| converse(2, json!({"toolUse": {"input": said}})),
        |event| event.pointer("/contentBlockDelta/delta/toolUse/input")?.as_str(),
    ),
    voice(
        "text",
        |said| converse(1, json!({"text": said})),
        |event| event.pointer("/contentBlockDelta/delta/text")?.as_str(),
    ),
];
const DASHSCOPE: &[Voice] = &[voice(
    "text",
    |said| json!({"output": {"choices": [{"message": {"role": "assistant", "content": said}, "finish_reason": "null"}]}, "request_id": "r"}),
    |event| event.pointer("/output/choices/0/message/content")?.as_str(),
)];

impl Form {
    /// What is known of it beforehand.
    pub fn expected(&self) -> Expected<'static> {
        Expected {
            dialect: self.dialect,
            stream: true,
            in_pieces: self.name == "in pieces",
            content_type: None,
            content_encoding: None,
        }
    }

    /// A stream in which each voice says these pieces, and what it says ends.
    pub fn stream(&self, pieces: &[&str]) -> Vec<u8> {
        let mut events = Vec::new();
        for voice in self.voices {
            let mut so_far = String::new();
            for piece in pieces {
                so_far.push_str(piece);
                events.push((voice.says)(if self.repeats { &so_far } else { piece }));
            }
        }
        events.extend((self.closing)(&pieces.concat()));
        for (number, event) in (0u64..).zip(&mut events) {
            if let Some(slot) = event.get_mut("sequence_number") {
                *slot = number.into();
            }
        }
        self.written(&events)
    }

    fn written(&self, events: &[Value]) -> Vec<u8> {
        let named = |event: &Value| match event["type"].as_str() {
            Some(kind) => format!("event: {kind}\n"),
            None => String::new(),
        };
        let data = |event: &Value| event.as_str().map_or_else(|| event.to_string(), str::to_owned);
        match self.framed {
            Framed::Events => events
                .iter()
                .map(|event| format!("{}data: {}\n\n", named(event), data(event)))
                .collect::<String>()
                .into_bytes(),
            Framed::Lines => events.iter().map(|event| format!("{event}\n")).collect::<String>().into_bytes(),
            Framed::Array => {
                let all: Vec<String> = events.iter().map(Value::to_string).collect();
                format!("[{}\r\n]", all.join("\r\n,\r\n")).into_bytes()
            }
            Framed::Messages => {
                let message = |event: &Value| {
                    let (kind, payload) = event.as_object().and_then(|event| event.iter().next()).expect("one key");
                    eventstream::write("event", kind, payload.to_string().as_bytes())
                };
                events.iter().flat_map(message).collect()
            }
            Framed::Chunks => {
                let chunk = |event: &Value| {
                    let payload = json!({"bytes": STANDARD.encode(event.to_string()), "p": "abc"});
                    eventstream::write("event", "chunk", payload.to_string().as_bytes())
                };
                events.iter().flat_map(chunk).collect()
            }
        }
    }

    /// The events of a stream, which must be whole.
    pub fn events(&self, stream: &[u8]) -> Vec<Value> {
        let mut framing = match self.framed {
            Framed::Events => Framing::Events(sse::Frames::default()),
            Framed::Lines | Framed::Array => Framing::Objects(values::Values::default()),
            Framed::Messages | Framed::Chunks => Framing::Messages(eventstream::Frames::default()),
        };
        let mut events = Vec::new();
        framing.push(stream, true, |piece| {
            if let Piece::Event(event) = piece {
                events.extend(self.event(event));
            }
            std::ops::ControlFlow::Continue(())
        });
        assert!(framing.is_whole(), "{self:?}: {}", String::from_utf8_lossy(stream));
        if self.framed == Framed::Array {
            let all: Vec<Value> = serde_json::from_slice(stream).expect("an array");
            assert_eq!(all, events, "{self:?}");
        }
        events
    }

    fn event(&self, event: &[u8]) -> Option<Value> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
        let parsed =
            |bytes: &[u8]| serde_json::from_slice(bytes).unwrap_or_else(|_| panic!("{self:?}: {}", text(bytes)));
        match self.framed {
            Framed::Events if event == b"[DONE]" || event.is_empty() => None,
            Framed::Events | Framed::Lines | Framed::Array => Some(parsed(event)),
            Framed::Messages => {
                let frame = eventstream::frame(event).expect("a frame");
                let payload: Value = parsed(frame.payload);
                Some(json!({frame.kind: payload}))
            }
            Framed::Chunks => {
                let payload: Value = parsed(eventstream::frame(event).expect("a frame").payload);
                Some(match payload["bytes"].as_str() {
                    Some(bytes) => parsed(&STANDARD.decode(bytes).expect("base 64")),
                    None => payload,
                })
            }
        }
    }

    /// What a client strings together of one voice.
    pub fn heard(&self, voice: &Voice, events: &[Value]) -> String {
        let pieces = || events.iter().filter_map(|event| (voice.heard)(event));
        if self.repeats { pieces().next_back().unwrap_or_default().to_owned() } else { pieces().collect() }
    }
}

impl std::fmt::Debug for Form {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.dialect.name(), self.name)
    }
}
