//! The control interface: JSON over HTTP.
//!
//! | request | does |
//! |---|---|
//! | `GET /healthz` | `ok` |
//! | `GET /ledger` | all that was said: [`crate::Ledger`] |
//! | `GET /traffic` | [`crate::Progress`] |
//! | `POST /traffic {"rate": 2000, "seconds": 60, "wait": true}` | says so much; `wait`: answers when it is said |
//! | `POST /traffic {"stop": true}` | answers when nothing more is said |
//! | `GET /replay`, `POST /replay {"wait": true}` | [`crate::ReplayProgress`]; begins the replay |
//! | `GET /connections` | the open ones: [`crate::ConnectionInfo`] |
//! | `POST /reconnect {"all": true}` or `{"connections": 2}` | RECONNECT to all or the oldest; `grace_ms` |
//! | `POST /cut`, `/freeze`, `/thaw`, likewise | cuts them off; leaves them half open, without a word; ends that |
//! | `GET /faults`, `POST /faults {"garbage": 0.1}`, `DELETE /faults` | [`crate::Faults`]: sets those named; none |
//! | `POST /channels/sim_1 {"door": "suspended"}` | [`crate::Door`]: how the channel lets people in |
//! | `POST /channels/sim_1 {"rename": "other"}` | another login for the same room |

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use crate::faults::{FaultError, Faults};
use crate::simulator::Handle;
use crate::town::Door;
use crate::traffic::Order;

/// `POST /traffic`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TrafficRequest {
    #[serde(default)]
    stop: bool,
    rate: Option<f64>,
    seconds: Option<f64>,
    #[serde(default)]
    wait_for_readers: bool,
    #[serde(default)]
    wait: bool,
}

/// `POST /replay`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReplayRequest {
    #[serde(default)]
    wait: bool,
}

/// `POST /reconnect`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReconnectRequest {
    #[serde(default)]
    all: bool,
    connections: Option<usize>,
    grace_ms: Option<u64>,
}

/// `POST /cut`, `POST /freeze`, `POST /thaw`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConnectionsRequest {
    #[serde(default)]
    all: bool,
    connections: Option<usize>,
}

/// `POST /channels/{login}`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ChannelRequest {
    Door(Door),
    Rename(String),
}

/// The connections that a request was about.
#[derive(Debug, Serialize)]
struct Chosen {
    connections: Vec<u64>,
}

pub(crate) fn router(handle: Arc<Handle>) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route("/ledger", get(ledger))
        .route("/traffic", get(progress).post(traffic))
        .route("/replay", get(replay_progress).post(replay))
        .route("/connections", get(connections))
        .route("/reconnect", post(reconnect))
        .route("/cut", post(async |handle, request| to_connections(handle, request, Handle::cut)))
        .route("/freeze", post(async |handle, request| to_connections(handle, request, Handle::freeze)))
        .route("/thaw", post(async |handle, request| to_connections(handle, request, Handle::thaw)))
        .route("/faults", get(faults).post(set_faults).delete(clear_faults))
        .route("/channels/{login}", post(channel))
        .with_state(handle)
}

async fn ledger(State(handle): State<Arc<Handle>>) -> Response {
    let ledger = handle.ledger().await;
    // Of a long run it is large: other requests go on meanwhile.
    match tokio::task::spawn_blocking(move || serde_json::to_vec(&ledger)).await {
        Ok(Ok(json)) => ([("content-type", "application/json")], json).into_response(),
        _ => refuse(StatusCode::INTERNAL_SERVER_ERROR, "failed to write the ledger"),
    }
}

async fn progress(State(handle): State<Arc<Handle>>) -> Response {
    Json(handle.progress().await).into_response()
}

async fn traffic(State(handle): State<Arc<Handle>>, Json(request): Json<TrafficRequest>) -> Response {
    let TrafficRequest { stop, rate, seconds, wait_for_readers, wait } = request;
    match (stop, rate) {
        (true, None) => handle.stop_traffic().await,
        (false, Some(rate)) => {
            if let Err(error) = handle.start_traffic(Order { rate, seconds, wait_for_readers }).await {
                return refuse(StatusCode::BAD_REQUEST, &error.to_string());
            }
            if wait && seconds.is_some() {
                handle.traffic_finished().await;
            }
        }
        _ => {
            return refuse(StatusCode::BAD_REQUEST, r#"say {"rate": R, "seconds": S} or {"stop": true}"#);
        }
    }
    Json(handle.progress().await).into_response()
}

async fn replay_progress(State(handle): State<Arc<Handle>>) -> Response {
    match handle.replay_progress() {
        Some(progress) => Json(progress).into_response(),
        None => refuse(StatusCode::NOT_FOUND, "started without --replay"),
    }
}

async fn replay(State(handle): State<Arc<Handle>>, request: Option<Json<ReplayRequest>>) -> Response {
    let wait = request.is_some_and(|Json(request)| request.wait);
    match handle.start_replay() {
        None => return refuse(StatusCode::NOT_FOUND, "started without --replay"),
        Some(false) => return refuse(StatusCode::CONFLICT, "the replay has begun already; it is said once"),
        Some(true) => {}
    }
    if wait {
        handle.replay_finished().await;
    }
    replay_progress(State(handle)).await
}

async fn connections(State(handle): State<Arc<Handle>>) -> Response {
    Json(handle.connections()).into_response()
}

async fn reconnect(State(handle): State<Arc<Handle>>, Json(request): Json<ReconnectRequest>) -> Response {
    let ReconnectRequest { all, connections, grace_ms } = request;
    let Some(most) = how_many(all, connections) else { return refuse_how_many() };
    let connections = handle.reconnect(most, grace_ms.map(Duration::from_millis));
    Json(Chosen { connections }).into_response()
}

fn to_connections(
    State(handle): State<Arc<Handle>>,
    Json(request): Json<ConnectionsRequest>,
    act: impl Fn(&Handle, usize) -> Vec<u64>,
) -> Response {
    let ConnectionsRequest { all, connections } = request;
    let Some(most) = how_many(all, connections) else { return refuse_how_many() };
    Json(Chosen { connections: act(&handle, most) }).into_response()
}

fn how_many(all: bool, connections: Option<usize>) -> Option<usize> {
    match (all, connections) {
        (true, None) => Some(usize::MAX),
        (false, Some(count)) => Some(count),
        _ => None,
    }
}

fn refuse_how_many() -> Response {
    refuse(StatusCode::BAD_REQUEST, r#"say {"all": true} or {"connections": N}"#)
}

async fn faults(State(handle): State<Arc<Handle>>) -> Response {
    Json(handle.faults()).into_response()
}

async fn set_faults(State(handle): State<Arc<Handle>>, Json(changes): Json<serde_json::Value>) -> Response {
    match handle.faults().with(&changes).and_then(|faults| handle.set_faults(faults)) {
        Ok(()) => Json(handle.faults()).into_response(),
        Err(error) => refuse(StatusCode::BAD_REQUEST, &error.to_string()),
    }
}

async fn clear_faults(State(handle): State<Arc<Handle>>) -> Response {
    match handle.set_faults(Faults::default()) {
        Ok(()) => Json(handle.faults()).into_response(),
        Err(error) => refuse(StatusCode::BAD_REQUEST, &error.to_string()),
    }
}

async fn channel(
    State(handle): State<Arc<Handle>>,
    Path(login): Path<String>,
    Json(request): Json<ChannelRequest>,
) -> Response {
    let done = match request {
        ChannelRequest::Door(door) => handle.set_door(&login, door),
        ChannelRequest::Rename(to) => handle.rename(&login, &to),
    };
    match done {
        Ok(()) => Json(serde_json::json!({})).into_response(),
        Err(error @ FaultError::NoChannel(_)) => refuse(StatusCode::NOT_FOUND, &error.to_string()),
        Err(error) => refuse(StatusCode::CONFLICT, &error.to_string()),
    }
}

fn refuse(status: StatusCode, why: &str) -> Response {
    (status, Json(serde_json::json!({ "error": why }))).into_response()
}
