//! Requests on the way: passed on, refused, never answered, cut off.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, RETRY_AFTER};
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use kube::client::Body;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::{Fault, Shared, status, watches};

/// A body on its way to who asked.
pub(super) type Answer = UnsyncBoxBody<Bytes, anyhow::Error>;

/// What a request is, as far as faults are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Write,
    Watch,
    Read,
}

impl Kind {
    fn of(request: &Request<Incoming>) -> Self {
        let query = request.uri().query().unwrap_or_default();
        match *request.method() {
            Method::GET if query.split('&').any(|part| part == "watch=true") => Self::Watch,
            Method::GET => Self::Read,
            _ => Self::Write,
        }
    }

    /// What can happen before it is passed on.
    fn faults(self) -> &'static [Fault] {
        use Fault::{Conflict, Dropped, Gone, Hung, ServerError, TooManyRequests, Unheard};
        match self {
            Self::Write => &[Conflict, TooManyRequests, ServerError, Hung, Dropped, Unheard],
            Self::Watch | Self::Read => &[Gone, TooManyRequests, ServerError, Hung, Dropped, Unheard],
        }
    }
}

/// Takes connections until it is dropped, and closes them then.
pub(super) async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(connections.spawn(serve(stream, Arc::clone(&shared)))),
            // Out of files: the next may find one.
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let _ = stream.set_nodelay(true);
    // A service that fails closes the connection without an answer.
    let service = service_fn(|request| answer(Arc::clone(&shared), request));
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Answer>> {
    let kind = Kind::of(&request);
    let counts = kind == Kind::Write && !request.uri().path().contains("/leases");
    let (parts, body) = request.into_parts();
    let body = body.collect().await.context("the request broke off")?.to_bytes();
    shared.pass().await;
    let held = shared.hold(&parts.method, parts.uri.path()).await;
    let fault = shared.draw(kind.faults());
    match fault {
        Some(Fault::Conflict) => return Ok(refusal(StatusCode::CONFLICT, "Conflict")),
        Some(Fault::Gone) => return Ok(refusal(StatusCode::GONE, "Expired")),
        Some(Fault::TooManyRequests) => return Ok(refusal(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests")),
        Some(Fault::ServerError) => {
            let codes = [
                (StatusCode::INTERNAL_SERVER_ERROR, "InternalError"),
                (StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable"),
                (StatusCode::GATEWAY_TIMEOUT, "Timeout"),
            ];
            let (code, reason) = codes[shared.below(codes.len())];
            return Ok(refusal(code, reason));
        }
        Some(Fault::Hung) => std::future::pending::<()>().await,
        Some(Fault::Dropped) => bail!("dropped"),
        _ => {}
    }
    let mut passed = Request::from_parts(parts, Body::from(body));
    // The proxy asks as itself: who it stands for.
    passed.headers_mut().remove(AUTHORIZATION);
    passed.headers_mut().remove(HOST);
    let answer = shared.server.send(passed).await.context("the API server did not answer")?;
    if let Some(held) = held {
        let _ = held.send(answer.status());
    }
    if counts && answer.status().is_success() {
        shared.written();
    }
    shared.pass().await;
    if fault == Some(Fault::Unheard) {
        bail!("dropped after it was done");
    }
    let is_watch = kind == Kind::Watch && answer.status().is_success();
    let (parts, body) = answer.into_parts();
    let body = if is_watch { watches::pass(shared, body) } else { body.map_err(anyhow::Error::from).boxed_unsync() };
    Ok(Response::from_parts(parts, body))
}

fn refusal(code: StatusCode, reason: &str) -> Response<Answer> {
    let body = Full::new(Bytes::from(status(code.as_u16(), reason).to_string()));
    let mut response = Response::new(body.map_err(|never: Infallible| match never {}).boxed_unsync());
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    if code == StatusCode::TOO_MANY_REQUESTS {
        headers.insert(RETRY_AFTER, http::HeaderValue::from_static("1"));
    }
    response
}
