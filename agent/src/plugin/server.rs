//! The transport: HTTP over a unix socket, as dockerd speaks it to plugins.
//!
//! Bodies come without a content type, or not at all. An answer is never empty; errors of the network driver stand in
//! `Err`, those of the IPAM driver in `Error`, and both are read with the status 200.

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use axum::{
    body::Body,
    http::{HeaderValue, Request, Response, StatusCode, header},
};
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::{driver, ipam, names};
use crate::{
    api::server::{self, Peer, ServeError},
    reconcile::Handle,
    state::Rejected,
};

/// What answers are written in.
const KIND: HeaderValue = HeaderValue::from_static("application/vnd.docker.plugins.v1.2+json");
/// The half of the protocol whose errors stand in `Error`.
const IPAM: &str = "IpamDriver";

/// The socket that dockerd finds, as long as this lives.
#[derive(Debug)]
pub struct Socket {
    path: PathBuf,
    socket: Option<server::Socket>,
}

impl Socket {
    /// Makes it. Whoever asks from now on is answered as soon as it is served.
    pub fn bind(path: &Path) -> Result<Self, ServeError> {
        let socket = server::bind_private(path)?;
        Ok(Self { path: path.to_owned(), socket: Some(socket) })
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Where nothing is, dockerd need not try.
        drop(std::fs::remove_file(&self.path));
    }
}

/// Serves until `stop` completes, and requests that have begun to their end. What Docker does not say by itself is asked
/// of it at its own socket.
pub async fn serve(
    mut socket: Socket,
    handle: Handle,
    docker: PathBuf,
    stop: impl Future<Output = ()>,
) {
    let Some(listener) = socket.socket.take() else { return };
    let driver = socket.path.file_stem().map(|name| name.to_string_lossy().into_owned());
    let follow = names::follow(handle.clone(), docker, driver.unwrap_or_default());
    let naming = tokio::spawn(follow);
    let answer = move |_: Peer, admitted, request| {
        let handle = handle.clone();
        async move { answer(&handle, admitted, request).await }
    };
    let path = socket.path.clone();
    let stop = async move {
        stop.await;
        // Who comes from now on comes again: dockerd repeats what it could not begin to say. Of what it has said on a
        // connection that ends, it repeats the head alone: so it gets none to use again.
        drop(std::fs::remove_file(path));
    };
    server::connections(listener, false, answer, stop).await;
    naming.abort();
}

async fn answer(
    handle: &Handle,
    admitted: Result<(), String>,
    request: Request<Incoming>,
) -> Response<Body> {
    let begin = Instant::now();
    let (parts, body) = request.into_parts();
    let method = parts.uri.path().trim_start_matches('/').to_owned();
    let response = match admitted {
        Err(why) => failed(&method, StatusCode::FORBIDDEN, &why),
        Ok(()) => match server::read_body(body).await {
            Ok(body) => called(handle, &method, &body).await,
            Err((status, why)) => {
                let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
                failed(&method, status, &why)
            }
        },
    };
    let (status, seconds) = (response.status().as_u16(), begin.elapsed().as_secs_f64());
    tracing::debug!(method, status, seconds, "Docker's request");
    response
}

async fn called(handle: &Handle, method: &str, body: &[u8]) -> Response<Body> {
    let (half, name) = method.split_once('.').unwrap_or((method, ""));
    let answered = match (half, name) {
        ("Plugin", "Activate") => Some(Ok(json!({"Implements": ["NetworkDriver", IPAM]}))),
        ("NetworkDriver", name) => driver::answer(handle, name, body).await,
        (IPAM, name) => ipam::answer(handle, name, body).await,
        _ => None,
    };
    match answered {
        None => failed(method, StatusCode::NOT_FOUND, "there is no such method"),
        Some(Ok(value)) => respond(StatusCode::OK, &value),
        Some(Err(Rejected { message, .. })) => {
            tracing::warn!(method, "refused: {message}");
            failed(method, StatusCode::OK, &message)
        }
    }
}

fn failed(method: &str, status: StatusCode, why: &str) -> Response<Body> {
    // Not even an error may be empty.
    let why = if why.is_empty() { "it failed" } else { why };
    match method.starts_with(IPAM) {
        true => respond(status, &json!({"Error": why, "Err": why})),
        false => respond(status, &json!({"Err": why})),
    }
}

fn respond(status: StatusCode, value: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(format!("{value}\n")));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, KIND);
    response
}
