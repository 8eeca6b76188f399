//! The transport: a unix socket, HTTP/1.1, and the rules that hold for every request.
//!
//! Nobody waits for somebody else here: every connection has a task, a request has to come and an answer
//! to be taken within half a minute, and there are only so many connections at once.

use std::{
    convert::Infallible,
    pin,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    body::{Body, to_bytes},
    http::{HeaderMap, Request, Response, Uri, header},
};
use http_body_util::LengthLimitError;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use tokio::{
    io::AsyncWriteExt as _,
    net::UnixStream,
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_io_timeout::TimeoutStream;

pub use super::{
    context::{Context, Facts},
    request::Peer,
    socket::{ServeError, Socket, bind, bind_private},
};
use super::{
    handlers, reply, request,
    route::{self, Lost},
    socket::{Seats, gone},
};
use crate::{
    state::{Kind, Rejected},
    telemetry::Metrics,
};

/// Longest body that is read.
const BODY: usize = 1 << 20;
/// How long a client may take to send its body.
const READ: Duration = Duration::from_secs(30);
/// How long a client may take to send the head of a request, and how long a connection may idle.
const HEADER: Duration = Duration::from_secs(30);
/// How long a client may take none of an answer.
const WRITE: Duration = Duration::from_secs(30);
/// Headers of one request.
const HEADERS: usize = 64;
/// Longest head of a request.
const HEAD: usize = 64 << 10;
/// Connections at once that are told that there is no room, and how long that may take.
const HALLWAY: usize = 64;
const FAREWELL: Duration = Duration::from_secs(1);
/// How long the queue is looked at, at the end.
const QUEUE: Duration = Duration::from_millis(20);
/// How long to wait where no connection can be taken, for want of descriptors.
const BREATH: Duration = Duration::from_millis(100);

struct Server {
    context: Context,
    metrics: Arc<Metrics>,
}

/// Serves until `stop` completes, and requests that have begun to their end.
pub async fn serve(
    socket: Socket,
    context: Context,
    metrics: Arc<Metrics>,
    stop: impl Future<Output = ()> + Send + 'static,
) {
    let server = Arc::new(Server { context, metrics });
    let answer = move |peer, admitted, request| {
        let server = Arc::clone(&server);
        async move { handle(&server, peer, admitted, request).await }
    };
    connections(socket, true, answer, stop).await;
}

/// Takes connections until `stop` completes, and has every request answered. Without `keep_alive`, a connection is for one
/// request: whose connection stands idle at the end does not say anything on it that nobody hears.
pub async fn connections<A, R>(
    socket: Socket,
    keep_alive: bool,
    answer: A,
    stop: impl Future<Output = ()>,
) where
    A: Fn(Peer, Result<(), String>, Request<Incoming>) -> R + Clone + Send + 'static,
    R: Future<Output = Response<Body>> + Send + 'static,
{
    let (seats, graceful) = (Seats::default(), GracefulShutdown::new());
    let hallway = Arc::new(Semaphore::new(HALLWAY));
    let (mut stop, mut stopping) = (pin::pin!(stop), false);
    loop {
        let accepted = if stopping {
            // Who stands in the queue already has said what he wants, and may not say it again.
            match tokio::time::timeout(QUEUE, socket.listener.accept()).await {
                Ok(accepted) => accepted,
                Err(_) => break,
            }
        } else {
            tokio::select! {
                () = &mut stop => {
                    stopping = true;
                    continue;
                }
                accepted = socket.listener.accept() => accepted,
            }
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(_) if stopping => break,
            Err(error) => {
                tracing::warn!(%error, "cannot take a connection to the API");
                tokio::time::sleep(BREATH).await;
                continue;
            }
        };
        let (peer, admitted) = socket.door.admit(&stream);
        let Some(seat) = seats.take(peer.uid) else {
            if let Ok(seat) = Arc::clone(&hallway).try_acquire_owned() {
                tokio::spawn(turn_away(stream, peer, seat));
            }
            continue;
        };
        let answer = answer.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let answered = answer(peer, admitted.clone(), request);
            async move { Ok::<_, Infallible>(answered.await) }
        });
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(HEADER).keep_alive(keep_alive);
        http.max_headers(HEADERS).max_buf_size(HEAD).half_close(true);
        let gone = gone(&stream);
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(WRITE));
        let connection = http.serve_connection(TokioIo::new(Box::pin(stream)), service);
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            let _seat = seat;
            tokio::select! {
                result = connection => if let Err(error) = result {
                    tracing::debug!(%error, uid = peer.uid, "a connection has ended badly");
                },
                () = gone => {}
            }
        });
    }
    graceful.shutdown().await;
}

/// Says that there are too many connections, and gives the client a moment to hear it.
async fn turn_away(mut stream: UnixStream, peer: Peer, _seat: OwnedSemaphorePermit) {
    tracing::warn!(uid = peer.uid, "too many connections to the API; one was turned away");
    let body =
        "{\"message\":\"too many connections to the agent; close some, or try again later\"}\n";
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let said = async {
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await?;
        // Who is still sending when the connection is closed may never read the answer.
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await
    };
    // Who has gone already needs no answer.
    let _ = tokio::time::timeout(FAREWELL, said).await;
}

async fn handle(
    server: &Server,
    peer: Peer,
    admitted: Result<(), String>,
    request: Request<Incoming>,
) -> Response<Body> {
    let begin = Instant::now();
    let method = request.method().clone();
    let found = route::find(method.as_str(), request.uri().path());
    let known = found.as_ref().ok().map(|found| found.row);
    let response = match (admitted, found) {
        (Err(why), _) => reply::refusal(403, why),
        (Ok(()), Ok(found)) => match receive(peer, found, request).await {
            Ok((route, request)) => {
                let result = handlers::answer(&server.context, route, &request).await;
                reply::respond(result, &method)
            }
            Err((status, why)) => reply::refusal(status, why),
        },
        (Ok(()), Err(lost)) => reply::respond(Err(refused(lost, request.uri())), &method),
    };
    let code = response.status().as_u16().to_string();
    let seconds = begin.elapsed().as_secs_f64();
    let pattern = known.map_or("unknown".to_owned(), |row| match row.method {
        "GET" | "POST" => row.path.to_owned(),
        method => format!("{method} {}", row.path),
    });
    server.metrics.api_request_seconds.with_label_values(&[&pattern, &code]).observe(seconds);
    tracing::debug!(%method, route = pattern, code, seconds, uid = peer.uid, "request");
    response
}

fn refused(lost: Lost, uri: &Uri) -> Rejected {
    match lost {
        Lost::Page => Rejected::new(Kind::NotFound, "page not found"),
        Lost::Engine => Rejected::new(
            Kind::NotFound,
            format!(
                "page not found: {} is a container engine's business, and this is Bascule, which serves the networks of Docker's API; `bascule run` makes a sandbox",
                uri.path()
            ),
        ),
        Lost::Version(why) => Rejected::invalid(why),
    }
}

/// Reads a request to its end; what is wrong with it comes with a status.
async fn receive(
    peer: Peer,
    found: route::Found,
    request: Request<Incoming>,
) -> Result<(route::Route, request::Request), (u16, String)> {
    let (parts, body) = request.into_parts();
    let body = read_body(body).await?;
    if !body.is_empty() {
        must_be_json(&parts.headers).map_err(|why| (400, why))?;
    }
    let query = query(&parts.uri).map_err(|why| (400, why))?;
    let request = request::Request { peer, version: found.version, id: found.id, query, body };
    Ok((found.row.route, request))
}

/// Reads a body to its end, unless it is too long or takes too long; that comes with a status.
pub async fn read_body(body: Incoming) -> Result<Vec<u8>, (u16, String)> {
    let body = tokio::time::timeout(READ, to_bytes(Body::new(body), BODY)).await;
    let body = body.map_err(|_| (408, "the request body took too long".to_owned()))?;
    body.map(|bytes| bytes.to_vec()).map_err(|error| {
        let mut cause: Option<&dyn std::error::Error> = Some(&error);
        while let Some(error) = cause {
            if error.is::<LengthLimitError>() {
                return (413, format!("the request body has more than {BODY} bytes"));
            }
            cause = error.source();
        }
        (400, format!("cannot read the request body: {error}"))
    })
}

fn must_be_json(headers: &HeaderMap) -> Result<(), String> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    if kind
        .split(';')
        .next()
        .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
    {
        return Ok(());
    }
    Err(format!("unsupported Content-Type header ({kind}): must be 'application/json'"))
}

fn query(uri: &Uri) -> Result<Vec<(String, String)>, String> {
    let pairs = uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    let text = |part: &str| {
        route::unescape(&part.replace('+', " "))
            .ok_or_else(|| format!("invalid query: {part:?} is not well escaped UTF-8"))
    };
    pairs
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((text(key)?, text(value)?))
        })
        .collect()
}
