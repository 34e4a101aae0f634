//! The collector's endpoints. Bad input is answered with a status and `{"error": "what is wrong"}`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Query, Request, State};
use axum::http::{Method, StatusCode, Uri, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use rusqlite::Connection;
use serde::Serialize;
use tokio::sync::{Mutex, Semaphore};

use super::clock::Clock;
use super::store::{self, Losses, Unfinished, account, usage};
use super::writer::{Refused, Sync, Writer};
use crate::report::wire::{MAX_BODY, decode_sync, encode_reply};

/// Syncs at work at a time, others wait: with the longest body, the bound on memory.
const MOST_SYNCS: usize = 64;
/// Questions at work at a time, others are refused: they must not keep syncs waiting.
const MOST_QUESTIONS: usize = 16;
/// No request takes longer.
const LONGEST: Duration = Duration::from_secs(30);

/// What the handlers share.
#[derive(Debug)]
struct Shared {
    database: PathBuf,
    clock: Clock,
    /// The reading connection, opened when it is first needed.
    reader: Mutex<Option<Connection>>,
    syncs: Semaphore,
    questions: Semaphore,
    /// Dropped last: only the connection that writes can fold the log into the file, and only when no other is open.
    writer: Writer,
}

/// All endpoints over one database file.
pub(super) fn routes(writer: Writer, database: PathBuf, clock: Clock) -> Router {
    let shared = Arc::new(Shared {
        writer,
        database,
        clock,
        reader: Mutex::new(None),
        syncs: Semaphore::new(MOST_SYNCS),
        questions: Semaphore::new(MOST_QUESTIONS),
    });
    Router::new()
        .route("/v1/sync", post(sync).layer(from_fn_with_state(Arc::clone(&shared), in_turn)))
        .route("/v1/usage", get(usage))
        .route("/v1/accounts", get(accounts))
        .route("/v1/losses", get(losses))
        .route("/healthz", get(health))
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(from_fn(in_time))
        .with_state(shared)
}

/// A refusal: whose fault it is by status, and what to do about it.
#[derive(Debug)]
struct Problem(StatusCode, String);

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = Json(serde_json::json!({ "error": self.1 }));
        if self.0 == StatusCode::SERVICE_UNAVAILABLE {
            return (self.0, [(header::RETRY_AFTER, "1")], body).into_response();
        }
        (self.0, body).into_response()
    }
}

impl From<store::Error> for Problem {
    fn from(error: store::Error) -> Self {
        let status = match error {
            store::Error::Question(_) => StatusCode::BAD_REQUEST,
            store::Error::Sqlite(_) | store::Error::Newer(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self(status, error.to_string())
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        let why = match refused {
            Refused::Busy => "too many syncs are waiting: send it again later".to_owned(),
            Refused::Failed(why) => format!("nothing was committed, send it again: {why}"),
            Refused::Gone => "the collector is stopping: send it again later".to_owned(),
        };
        Self(StatusCode::SERVICE_UNAVAILABLE, why)
    }
}

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Self {
        Self(StatusCode::BAD_REQUEST, rejection.body_text())
    }
}

/// Ends what takes too long, a body that never comes among it.
async fn in_time(request: Request, next: Next) -> Response {
    tokio::time::timeout(LONGEST, next.run(request)).await.unwrap_or_else(|_| {
        Problem(StatusCode::REQUEST_TIMEOUT, format!("the request took longer than {} s", LONGEST.as_secs()))
            .into_response()
    })
}

/// Reads no more bodies at a time than there is memory for.
async fn in_turn(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let _turn = shared.syncs.acquire().await;
    next.run(request).await
}

async fn wrong_method(method: Method, uri: Uri) -> Problem {
    Problem(StatusCode::METHOD_NOT_ALLOWED, format!("`{method}` is not served at `{}`", uri.path()))
}

async fn sync(State(shared): State<Arc<Shared>>, body: Result<Bytes, BytesRejection>) -> Result<Response, Problem> {
    let body = body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            Problem(StatusCode::PAYLOAD_TOO_LARGE, format!("a sync has at most {MAX_BODY} bytes: send smaller batches"))
        }
        status => Problem(status, rejection.body_text()),
    })?;
    let (head, records) = decode_sync(&body).map_err(|error| Problem(StatusCode::BAD_REQUEST, error.to_string()))?;
    if head.bundle.is_empty() {
        return Err(Problem(StatusCode::BAD_REQUEST, "field `bundle` of the head is missing or empty".to_owned()));
    }
    let reply = shared.writer.sync(Sync { head, records }).await?;
    Ok(([(header::CONTENT_TYPE, "application/msgpack")], encode_reply(&reply)).into_response())
}

async fn usage(
    State(shared): State<Arc<Shared>>,
    question: Result<Query<usage::Question>, QueryRejection>,
) -> Result<Json<usage::Answer>, Problem> {
    let Query(question) = question?;
    read(shared, move |db| usage::answer(db, &question)).await
}

async fn accounts(
    State(shared): State<Arc<Shared>>,
    question: Result<Query<account::Question>, QueryRejection>,
) -> Result<Json<account::Answer>, Problem> {
    let Query(question) = question?;
    let now_ms = shared.clock.wall_ms();
    read(shared, move |db| account::answer(db, &question, now_ms)).await
}

/// The answer of `GET /v1/losses`.
#[derive(Debug, Serialize)]
struct Missing {
    #[serde(flatten)]
    losses: Losses,
    unfinished: Vec<Unfinished>,
}

async fn losses(State(shared): State<Arc<Shared>>) -> Result<Json<Missing>, Problem> {
    read(shared, |db| Ok(Missing { losses: store::losses(db)?, unfinished: store::unfinished(db)? })).await
}

/// Healthy means that the writer takes syncs and can commit.
async fn health(State(shared): State<Arc<Shared>>) -> Result<Json<serde_json::Value>, Problem> {
    shared.writer.probe().await?;
    Ok(Json(serde_json::json!({ "status": "ok" })))
}

async fn unknown(uri: Uri) -> Problem {
    let paths = "POST /v1/sync, GET /v1/usage, /v1/accounts, /v1/losses, /healthz";
    Problem(StatusCode::NOT_FOUND, format!("`{}` is not served here; what is: {paths}", uri.path()))
}

/// Answers a question on a thread that may block, on the connection that only reads.
async fn read<T: Send + 'static>(
    shared: Arc<Shared>,
    question: impl FnOnce(&Connection) -> Result<T, store::Error> + Send + 'static,
) -> Result<Json<T>, Problem> {
    let busy =
        || Problem(StatusCode::SERVICE_UNAVAILABLE, "too many questions are waiting: ask again later".to_owned());
    let answered = tokio::task::spawn_blocking(move || {
        let Ok(_turn) = shared.questions.try_acquire() else { return Ok(None) };
        let mut slot = shared.reader.blocking_lock();
        let reader = match slot.take() {
            Some(reader) => reader,
            None => store::reader(&shared.database)?,
        };
        // Handed back below only if it answered: a broken connection is opened anew.
        let answer = question(&reader)?;
        *slot = Some(reader);
        Ok::<Option<T>, store::Error>(Some(answer))
    });
    match answered.await {
        Ok(answer) => answer?.map(Json).ok_or_else(busy),
        Err(_) => Err(Problem(StatusCode::INTERNAL_SERVER_ERROR, "the question could not be answered".to_owned())),
    }
}
