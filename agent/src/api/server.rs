//! The transport: a unix socket, HTTP/1.1, and the rules that hold for every request.

use std::{
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{ConnectInfo, State, connect_info::Connected},
    http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header},
    serve::IncomingStream,
};
use nix::unistd::{Gid, Group, Uid, chown};
use tokio::net::UnixListener;

pub use super::handlers::{Context, Facts, Peer};
use super::{
    handlers::{self, Reply},
    paths, proto,
    route::{self, Lost, Route},
};
use crate::{state::Rejected, telemetry::Metrics};

/// Longest body that is read.
const BODY: usize = 1 << 20;
/// How long a client may take to send its body.
const READ: Duration = Duration::from_secs(30);
/// Who may use the socket beside root.
const GROUP: &str = "bascule";

/// Why the API cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} the API's socket {}: {source}", path.display())]
pub struct ServeError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// Makes the socket, in place of one that an agent left which has ended.
pub fn bind(run_dir: &Path) -> Result<UnixListener, ServeError> {
    let path = run_dir.join(paths::SOCKET);
    let failed = |action| {
        let path = path.clone();
        move |source| ServeError { action, path, source }
    };
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(failed("replace")(error));
        }
        _ => {}
    }
    let listener = UnixListener::bind(&path).map_err(failed("make"))?;
    // Nobody else gets in between: the group is set before its members may connect.
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).map_err(failed("protect"))?;
    if let Ok(Some(group)) = Group::from_name(GROUP) {
        chown(&path, None::<Uid>, Some::<Gid>(group.gid))
            .map_err(|e| failed("protect")(e.into()))?;
    }
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o660)).map_err(failed("protect"))?;
    Ok(listener)
}

#[derive(Clone)]
struct Server {
    context: Context,
    metrics: Arc<Metrics>,
}

impl Connected<IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        Self { uid: stream.io().peer_cred().ok().map(|credentials| credentials.uid()) }
    }
}

/// Serves until `stop` completes, and requests that have begun to their end.
pub async fn serve(
    listener: UnixListener,
    context: Context,
    metrics: Arc<Metrics>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let router = Router::new().fallback(handle).with_state(Server { context, metrics });
    let service = router.into_make_service_with_connect_info::<Peer>();
    axum::serve(listener, service).with_graceful_shutdown(stop).await
}

async fn handle(
    State(server): State<Server>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    request: Request<Body>,
) -> Response<Body> {
    let begin = Instant::now();
    let method = request.method().clone();
    let found = route::find(method.as_str(), request.uri().path());
    let pattern = found.as_ref().map_or("unknown", Route::pattern);
    let result = match found {
        Ok(route) => answer(&server.context, route, peer, request).await,
        Err(Lost::Page) => Err(Rejected::new(crate::state::Kind::NotFound, "page not found")),
        Err(Lost::Version(why)) => Err(Rejected::invalid(why)),
    };
    let response = respond(result, &method);
    let code = response.status().as_u16().to_string();
    let seconds = begin.elapsed().as_secs_f64();
    server.metrics.api_request_seconds.with_label_values(&[pattern, &code]).observe(seconds);
    tracing::debug!(%method, route = pattern, code, seconds, uid = peer.uid, "request");
    response
}

async fn answer(
    context: &Context,
    route: Route,
    peer: Peer,
    request: Request<Body>,
) -> Result<Reply, Rejected> {
    let (parts, body) = request.into_parts();
    let body = tokio::time::timeout(READ, to_bytes(body, BODY)).await;
    let body = body.map_err(|_| Rejected::invalid("the request body took too long"))?;
    let body =
        body.map_err(|error| Rejected::invalid(format!("cannot read the request body: {error}")))?;
    if !body.is_empty() {
        must_be_json(&parts.headers)?;
    }
    let request = handlers::Request { peer, query: query(&parts.uri), body: body.to_vec() };
    handlers::answer(context, route, &request).await
}

fn must_be_json(headers: &HeaderMap) -> Result<(), Rejected> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    if kind
        .split(';')
        .next()
        .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
    {
        return Ok(());
    }
    Err(Rejected::invalid(format!(
        "unsupported Content-Type header ({kind}): must be 'application/json'"
    )))
}

fn query(uri: &Uri) -> Vec<(String, String)> {
    let pairs = uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    let text = |part: &str| route::unescape(&part.replace('+', " ")).unwrap_or_default();
    pairs
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (text(key), text(value))
        })
        .collect()
}

fn respond(result: Result<Reply, Rejected>, method: &Method) -> Response<Body> {
    let (status, kind, body) = match result {
        Ok(Reply::Ping) => {
            let body = if method == Method::HEAD { "" } else { "OK" };
            (200, Some("text/plain; charset=utf-8"), body.to_owned())
        }
        Ok(Reply::Empty(status)) => (status, None, String::new()),
        Ok(Reply::Json(status, value)) => (status, Some("application/json"), format!("{value}\n")),
        Err(error) => {
            let reply = proto::ErrorReply { message: error.message.clone() };
            let body = serde_json::to_string(&reply).unwrap_or_default();
            (error.status(), Some("application/json"), body + "\n")
        }
    };
    let ping = kind.is_some_and(|kind| kind.starts_with("text/plain"));
    let mut response = Response::new(Body::from(body));
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(
        header::SERVER,
        HeaderValue::from_static(concat!(
            "Docker/28.5.2-bascule-",
            env!("CARGO_PKG_VERSION"),
            " (linux)"
        )),
    );
    headers.insert("Api-Version", HeaderValue::from_static(paths::API_VERSION));
    headers.insert("Ostype", HeaderValue::from_static("linux"));
    headers.insert("Docker-Experimental", HeaderValue::from_static("false"));
    if let Some(kind) = kind {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    }
    if ping {
        headers.insert(
            header::CACHE_CONTROL,
            HeaderValue::from_static("no-cache, no-store, must-revalidate"),
        );
        headers.insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
        headers.insert("Swarm", HeaderValue::from_static("inactive"));
    }
    response
}
