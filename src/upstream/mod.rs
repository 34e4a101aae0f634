//! A model stand-in that speaks OpenAI chat completions and Anthropic messages.
//!
//! It answers with tokens that it chose itself, at a set pace, and reports their number: a second opinion that
//! shares no code with the filter's meter. Prompts are counted with `bpe-openai` by the published chat formula
//! (the tokens of the texts, 4 a message, 3 for the answer's opening). The official SDKs work against it.
//!
//! | path | |
//! |---|---|
//! | `POST /v1/chat/completions` | OpenAI: JSON and SSE, tools, `n`, `max_tokens`, `max_completion_tokens`, `stream_options` |
//! | `POST /v1/messages` | Anthropic: JSON and SSE, tools, `max_tokens` |
//! | `POST /v1/messages/count_tokens` | Anthropic: `input_tokens` of a prompt |
//! | `POST /v1/images/generations`, `/v1/audio/speech`, `/v1/audio/transcriptions` | OpenAI: as many images as are asked for; no sound; a form |
//! | `POST /v1/image_generation`, `/v1/t2a_v2`, `/v1/video_generation`, `/v1/music_generation` | MiniMax: so many images; no sound; the name of a task |
//! | a `POST` to a path that ends like the first two | the same, at the base of another provider |
//! | `GET /v1/models` | one name, for clients that ask |
//! | `GET /stats?last=100&id=` | counters, and the last exchanges with what was written to each |
//! | `DELETE /stats` | start counting anew |
//! | `GET /healthz` | 200 |
//!
//! A tool is called when the request forces one or its last user message says "use the tool".
//!
//! # Markers
//! A prompt's last user message steers the answer by `[[marker]]` or `[[marker marker=value]]`; the request
//! header `x-upstream: marker marker=value` does the same without touching the prompt, and refuses names that
//! it does not know.
//!
//! | marker | effect |
//! |---|---|
//! | `output=N` | N output tokens, as far as the limit allows (else 10 to 60, by the seed) |
//! | `ignore-limit` | the caller's limit does not count |
//! | `input=N`, `cached=N`, `cache-write=N`, `cache-write-1h=N` | prompt tokens to report: in all, of these cached, of these written to the cache, of these for an hour |
//! | `reasoning=N` | of the output tokens, N are reported as reasoning (OpenAI) |
//! | `tool-calls=N` | N tools are called behind the words, without arguments |
//! | `used=T` | a tool of the provider's own, or `mcp__LABEL__NAME` of a server, has run behind the words; several: one after another |
//! | `arguments` | the output is the arguments of the first tool that is offered, in place of words |
//! | `images=N`, `seconds=N` | so many images in place of those asked for; what a transcription is said to have heard |
//! | `silent` | no usage |
//! | `absurd` | negative and impossibly large usage |
//! | `break=K` | the connection is cut after K output tokens |
//! | `stall=K` | nothing more comes after K output tokens of a stream, until the caller goes away |
//! | `no-response` | the connection is cut before the response headers |
//! | `served=M` | the answer names the model M, in the place of the one asked for |
//! | `fail=S`, `fail=reset` | the first try of a request (by its `x-request-id`) is answered with status S, or its connection cut before the response headers; several: those of the next |
//! | `error=S` | status S with an error body; 429 with `retry-after: 1` |
//! | `inside-error` | a 200 that holds an error: the body, or an event in the middle of the stream |
//! | `garbage` | a 200 whose body is no JSON and no event stream |
//! | `trailers` | the body ends by trailers (HTTP/2, or HTTP/1.1 from a client that sends `te: trailers`) |
//! | `crlf`, `comments` | SSE lines end in CR LF; comments between events |
//! | `echo` | the answer is the user's last words, as far as the limit allows |
//! | `pace=20ms` | time between two tokens |
//! | `slow-headers=2s` | time before the response headers |

pub mod answer;
mod anthropic;
pub mod ask;
pub mod body;
pub mod dialect;
pub mod media;
mod openai;
pub mod script;
pub mod server;
pub mod tally;
pub mod vocabulary;
