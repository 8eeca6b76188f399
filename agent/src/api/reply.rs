//! What goes back, with the headers that Docker's clients look at.

use axum::{
    body::{Body, Bytes},
    http::{HeaderValue, Method, Response, StatusCode, header},
};
use futures::stream::BoxStream;
use serde::Serialize;
use serde_json::Value;

use super::{paths, proto};
use crate::state::Rejected;

/// What goes back.
pub(super) enum Reply {
    /// Somebody is there.
    Ping,
    /// A status and JSON.
    Json(u16, Value),
    /// A status alone.
    Empty(u16),
    /// JSON, line by line, for as long as there is some.
    Lines(BoxStream<'static, std::io::Result<Bytes>>),
}

impl Reply {
    /// Makes a reply of a value.
    pub(super) fn json(status: u16, value: &impl Serialize) -> Result<Self, Rejected> {
        serde_json::to_value(value)
            .map(|value| Self::Json(status, value))
            .map_err(Rejected::internal)
    }
}

const JSON: Option<HeaderValue> = Some(HeaderValue::from_static("application/json"));

/// Makes the response of a reply or a refusal.
pub(super) fn respond(result: Result<Reply, Rejected>, method: &Method) -> Response<Body> {
    match result {
        Ok(Reply::Ping) => ping(method),
        Ok(Reply::Empty(status)) => response(status, None, Body::empty()),
        Ok(Reply::Json(status, value)) => response(status, JSON, format!("{value}\n").into()),
        Ok(Reply::Lines(lines)) => response(200, JSON, Body::from_stream(lines)),
        Err(error) => refusal(error.status(), error.message),
    }
}

/// Makes the response of a refusal.
pub(super) fn refusal(status: u16, message: String) -> Response<Body> {
    let body = serde_json::to_string(&proto::ErrorReply { message }).unwrap_or_default();
    response(status, JSON, format!("{body}\n").into())
}

fn ping(method: &Method) -> Response<Body> {
    let body = if method == Method::HEAD { "" } else { "OK" };
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    let mut response = response(200, Some(kind), body.into());
    let headers = response.headers_mut();
    let never = HeaderValue::from_static("no-cache, no-store, must-revalidate");
    headers.insert(header::CACHE_CONTROL, never);
    headers.insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
    headers.insert("Swarm", HeaderValue::from_static("inactive"));
    if method == Method::HEAD {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    response
}

fn response(status: u16, kind: Option<HeaderValue>, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    let server = concat!("Docker/28.5.2-bascule-", env!("CARGO_PKG_VERSION"), " (linux)");
    headers.insert(header::SERVER, HeaderValue::from_static(server));
    headers.insert("Api-Version", HeaderValue::from_static(paths::API_VERSION));
    headers.insert("Ostype", HeaderValue::from_static("linux"));
    headers.insert("Docker-Experimental", HeaderValue::from_static("false"));
    if let Some(kind) = kind {
        headers.insert(header::CONTENT_TYPE, kind);
    }
    response
}
