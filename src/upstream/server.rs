//! The HTTP server.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Query, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::time::sleep;

use super::answer::Answer;
use super::ask::{Api, Ask, read};
use super::body::{Saying, TRAILER};
use super::dialect;
use super::media;
use super::script::{HEADER, Script};
use super::tally::{Outcome, Tally};

/// Largest request body, bytes.
const LARGEST_BODY: usize = 64 << 20;

/// Of how many requests it is remembered how often they were tried.
const MOST_TRIED: usize = 10_000;

/// Headers whose values are nobody's business.
const CREDENTIALS: [&str; 4] = ["authorization", "x-api-key", "api-key", "cookie"];

/// How a stand-in behaves unless a marker says otherwise.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Time between two tokens of a choice.
    pub pace: Duration,
    /// Decides every answer, together with the number of the exchange.
    pub seed: u64,
}

struct Server {
    settings: Settings,
    tally: Tally,
    serial: AtomicU64,
    /// How often requests that shall fail were tried, by their ids.
    tried: Mutex<HashMap<Vec<u8>, usize>>,
}

impl Server {
    /// The script of this try.
    fn at_try(&self, script: Script, headers: &HeaderMap) -> Script {
        let id = headers.get("x-request-id").map(HeaderValue::as_bytes).unwrap_or_default();
        let (false, Ok(mut tried)) = (script.fails.is_empty(), self.tried.lock()) else { return script };
        if tried.len() >= MOST_TRIED {
            tried.clear();
        }
        let before = tried.entry(id.to_vec()).or_default();
        let script = script.at_try(*before);
        *before = before.saturating_add(1);
        script
    }
}

type Shared = Arc<Server>;

/// Serves on `listener` until the future is dropped.
///
/// # Errors
/// When the listener fails.
pub async fn serve(listener: TcpListener, settings: Settings) -> io::Result<()> {
    axum::serve(listener, router(settings, Tally::default())).await
}

/// The routes, over a tally that the caller may keep.
pub fn router(settings: Settings, tally: Tally) -> Router {
    let made = media::PATHS.iter().fold(Router::new(), |router, path| router.route(path, post(make)));
    made.route("/v1/chat/completions", post(openai_chat))
        .route("/v1/messages", post(anthropic_messages))
        .route("/v1/messages/count_tokens", post(count_tokens))
        .route("/v1/models", get(models))
        .route("/stats", get(stats).delete(forget))
        .route("/healthz", get(async || "ok\n"))
        .fallback(nowhere)
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .with_state(Arc::new(Server { settings, tally, serial: AtomicU64::new(0), tried: Mutex::default() }))
}

async fn openai_chat(State(server): State<Shared>, headers: HeaderMap, body: Bytes) -> Response {
    exchange(&server, Api::OpenAiChat, &headers, &body).await
}

async fn anthropic_messages(State(server): State<Shared>, headers: HeaderMap, body: Bytes) -> Response {
    exchange(&server, Api::AnthropicMessages, &headers, &body).await
}

/// What is not counted in tokens.
async fn make(State(server): State<Shared>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let shown = shown(&headers);
    let wish = media::read(uri.path(), &body).unwrap_or_else(|| Err("there is no such path".to_owned()));
    let read = wish.and_then(|wish| Ok((script(&wish.words, &headers)?, wish)));
    let (wish, script) = match read {
        Ok((script, wish)) => (wish, script),
        Err(message) => {
            server.tally.refused("", "", 400, shown);
            return refusal(Api::OpenAiChat, 400, &message);
        }
    };
    let script = server.at_try(script, &headers);
    sleep(script.slow_headers).await;
    if let Some(status) = script.error {
        server.tally.refused(wish.api, &wish.model, status, shown);
        return refusal(Api::OpenAiChat, status, &format!("the stand-in was asked for status {status}"));
    }
    server.tally.made(wish.api, &wish.model, shown);
    let (kind, body) = media::answer(&wish, &script);
    ([(header::CONTENT_TYPE, kind)], body).into_response()
}

async fn exchange(server: &Server, api: Api, headers: &HeaderMap, body: &[u8]) -> Response {
    let shown = shown(headers);
    let (ask, script) = match read(api, body).and_then(|ask| Ok((script(&ask.last_words, headers)?, ask))) {
        Ok((script, ask)) => (ask, script),
        Err(message) => {
            server.tally.refused(api.name(), "", 400, shown);
            return refusal(api, 400, &message);
        }
    };
    let script = server.at_try(script, headers);
    if let Some(status) = script.error {
        sleep(script.slow_headers).await;
        server.tally.refused(api.name(), &ask.model, status, shown);
        return refusal(api, status, &format!("the stand-in was asked for status {status}"));
    }
    let serial = server.serial.fetch_add(1, Ordering::Relaxed);
    let answer = Answer::choose(&ask, &script, server.settings.seed, serial, seconds());
    let mut run = server.tally.start(&ask, &answer, shown);
    let pace = script.pace.unwrap_or(server.settings.pace);
    sleep(script.slow_headers).await;
    if script.garbage {
        run.over(Outcome::Failed);
        return respond(
            &ask,
            &script,
            &answer.id.clone(),
            Body::from("\u{0}\u{1}<!doctype html>\n}{ not what it says"),
        );
    }
    let id = answer.id.clone();
    let body = if script.no_response {
        Body::new(Saying::nothing(answer, &script, run))
    } else if ask.stream {
        Body::new(Saying::stream(answer, &script, pace, run))
    } else {
        let tokens = u32::try_from(answer.length()).unwrap_or(u32::MAX);
        sleep(pace.saturating_mul(tokens)).await;
        if script.inside_error {
            run.over(Outcome::Failed);
            Body::from(dialect::error(api, 503, "the stand-in was asked to fail here").to_string())
        } else {
            Body::new(Saying::document(answer, &script, run))
        }
    };
    respond(&ask, &script, &id, body)
}

fn script(words: &str, headers: &HeaderMap) -> Result<Script, String> {
    let mut script = Script::default();
    script.follow_prompt(words)?;
    for value in headers.get_all(HEADER) {
        script.follow_list(&String::from_utf8_lossy(value.as_bytes()))?;
    }
    Ok(script)
}

fn respond(ask: &Ask, script: &Script, id: &str, body: Body) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    let kind = if ask.stream { "text/event-stream; charset=utf-8" } else { "application/json" };
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    let name = match ask.api {
        Api::OpenAiChat => HeaderName::from_static("x-request-id"),
        Api::AnthropicMessages => HeaderName::from_static("request-id"),
    };
    if let Ok(id) = HeaderValue::from_str(id) {
        headers.insert(name, id);
    }
    if ask.stream {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    }
    if script.trailers {
        headers.insert(header::TRAILER, HeaderValue::from_static(TRAILER));
    }
    response
}

fn refusal(api: Api, status: u16, message: &str) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = json_response(status, &dialect::error(api, status.as_u16(), message));
    if status == StatusCode::TOO_MANY_REQUESTS {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

fn json_response(status: StatusCode, body: &Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

async fn count_tokens(body: Bytes) -> Response {
    // The API needs no `max_tokens` here; the reader does.
    let with_limit = serde_json::from_slice(&body).map(|mut body: Value| {
        if let Some(body) = body.as_object_mut() {
            body.insert("max_tokens".to_owned(), json!(1));
        }
        body.to_string()
    });
    let ask = match &with_limit {
        Ok(body) => read(Api::AnthropicMessages, body.as_bytes()),
        Err(error) => Err(format!("the body is no JSON: {error}")),
    };
    match ask {
        Ok(ask) => json_response(StatusCode::OK, &json!({"input_tokens": ask.prompt_tokens})),
        Err(message) => refusal(Api::AnthropicMessages, 400, &message),
    }
}

async fn models() -> Response {
    let model = json!({"id": "demo-small", "object": "model", "created": 0, "owned_by": "farebox"});
    json_response(StatusCode::OK, &json!({"object": "list", "data": [model]}))
}

#[derive(Deserialize)]
struct Choice {
    last: Option<usize>,
    id: Option<String>,
}

async fn stats(State(server): State<Shared>, Query(choice): Query<Choice>) -> Response {
    let exchanges = server.tally.exchanges(choice.last.unwrap_or(100), choice.id.as_deref());
    match (serde_json::to_value(server.tally.counters()), serde_json::to_value(exchanges)) {
        (Ok(Value::Object(mut counters)), Ok(exchanges)) => {
            counters.insert("exchanges".to_owned(), exchanges);
            json_response(StatusCode::OK, &Value::Object(counters))
        }
        _ => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn forget(State(server): State<Shared>) -> StatusCode {
    server.tally.clear();
    StatusCode::NO_CONTENT
}

async fn nowhere(State(server): State<Shared>, method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    if let Some(api) = Api::at(uri.path()).filter(|_| method == Method::POST) {
        return exchange(&server, api, &headers, &body).await;
    }
    if method == Method::POST && media::read(uri.path(), &[]).is_some() {
        return make(State(server), uri, headers, body).await;
    }
    let message = format!("the stand-in has no `{method} {}`", uri.path());
    json_response(StatusCode::NOT_FOUND, &dialect::error(Api::OpenAiChat, 404, &message))
}

fn shown(headers: &HeaderMap) -> BTreeMap<String, String> {
    let mut shown = BTreeMap::<String, String>::new();
    for (name, value) in headers {
        let value = match CREDENTIALS.contains(&name.as_str()) {
            true => "(present)".into(),
            false => String::from_utf8_lossy(value.as_bytes()),
        };
        // Repeated headers read as one list, as in HTTP.
        shown
            .entry(name.as_str().to_owned())
            .and_modify(|all| all.extend([", ", &value]))
            .or_insert_with(|| value.into_owned());
    }
    shown
}

#[expect(clippy::disallowed_methods, reason = "a server stamps its answers")]
fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
