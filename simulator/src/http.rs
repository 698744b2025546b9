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

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use crate::simulator::Handle;
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

#[derive(Debug, Serialize)]
struct Reconnected {
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
    let most = match (all, connections) {
        (true, None) => usize::MAX,
        (false, Some(count)) => count,
        _ => return refuse(StatusCode::BAD_REQUEST, r#"say {"all": true} or {"connections": N}"#),
    };
    let told = handle.reconnect(most, grace_ms.map(Duration::from_millis));
    Json(Reconnected { connections: told }).into_response()
}

fn refuse(status: StatusCode, why: &str) -> Response {
    (status, Json(serde_json::json!({ "error": why }))).into_response()
}
