//! The server of the page.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    Json, Router,
    extract::{Path, Request, State},
    http::{
        HeaderName, HeaderValue, Method, StatusCode,
        header::{CACHE_CONTROL, CONTENT_TYPE, HOST},
        uri::Authority,
    },
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use serde::Serialize;
use tokio::net::TcpListener;

use super::history::{History, Point, SPAN};
use crate::api::{
    flows::{self, Connections},
    server::Context,
    traffic::{self, Traffic, TrafficEndpoint, TrafficPort},
};

/// Time between two readings, at least; and how many times of what a reading takes.
const PAUSE: Duration = Duration::from_secs(1);
const PATIENCE: u32 = 50;
/// Connections of an endpoint that are shown.
const CONNECTIONS: usize = 200;

/// What the page is made of: path, type, content.
const FILES: [(&str, &str, &str); 8] = [
    ("/", HTML, include_str!("page/index.html")),
    ("/style.css", "text/css; charset=utf-8", include_str!("page/style.css")),
    ("/app.js", SCRIPT, include_str!("page/app.js")),
    ("/dom.js", SCRIPT, include_str!("page/dom.js")),
    ("/picture.js", SCRIPT, include_str!("page/picture.js")),
    ("/tables.js", SCRIPT, include_str!("page/tables.js")),
    ("/endpoint.js", SCRIPT, include_str!("page/endpoint.js")),
    ("/icon.svg", "image/svg+xml", include_str!("page/icon.svg")),
];
const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// What every answer tells the browser: nothing from elsewhere, nothing written into the page, nobody around it.
const HEADERS: [(&str, &str); 5] = [
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
         require-trusted-types-for 'script'; trusted-types 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-resource-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
];

/// Why the page cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum UiError {
    /// The address is taken, or not ours.
    #[error("cannot listen for the web page on {address}: {source} (see --ui)")]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Takes the address.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, UiError> {
    TcpListener::bind(address).await.map_err(|source| UiError::Bind { address, source })
}

/// Everything that the page is answered from.
pub struct Ui {
    context: Context,
    seen: Mutex<Seen>,
    /// Whoever reads the table of connections: one at a time.
    reading: tokio::sync::Mutex<()>,
}

/// What was read last, and before.
#[derive(Default)]
struct Seen {
    traffic: Arc<Traffic>,
    history: History,
}

/// An endpoint's page.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct EndpointPage {
    endpoint: TrafficEndpoint,
    ports: Vec<TrafficPort>,
    history: HistoryPage,
    connections: Connections,
}

/// What an endpoint has carried lately.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct HistoryPage {
    /// Seconds that are kept.
    span: u64,
    /// Seconds since the reading; bytes in, bytes out and packets dropped a second; the oldest first.
    points: Vec<Point>,
}

impl Ui {
    /// Makes it; nothing is read yet.
    pub fn new(context: Context) -> Self {
        Self { context, seen: Mutex::default(), reading: tokio::sync::Mutex::default() }
    }

    /// Reads and serves, until it is dropped.
    pub async fn run(self, listener: TcpListener) {
        let ui = Arc::new(self);
        let serving = axum::serve(listener, router(Arc::clone(&ui))).into_future();
        tokio::select! {
            () = ui.read() => {}
            ended = serving => if let Err(error) = ended {
                tracing::error!(%error, "the web page is not served any more");
            },
        }
    }

    async fn read(&self) {
        loop {
            let begin = Instant::now();
            let context = self.context.clone();
            match tokio::task::spawn_blocking(move || traffic::read(&context)).await {
                Ok(Ok(traffic)) => self.seen().take(traffic),
                Ok(Err(error)) => {
                    tracing::warn!(error = error.message, "the web page stands still")
                }
                Err(error) => tracing::error!(%error, "the web page stands still"),
            }
            tokio::time::sleep(PAUSE.max(begin.elapsed() * PATIENCE)).await;
        }
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn page_of(self: Arc<Self>, id: &str) -> Result<Option<EndpointPage>, String> {
        let (traffic, points) = {
            let seen = self.seen();
            (Arc::clone(&seen.traffic), seen.history.of(id, traffic::clock()))
        };
        let Some(endpoint) = traffic.endpoints.iter().find(|e| e.id == id).cloned() else {
            return Ok(None);
        };
        let own = |p: &&TrafficPort| {
            (&p.container, &p.network) == (&endpoint.container, &endpoint.network)
        };
        let ports = traffic.ports.iter().filter(own).cloned().collect();
        let (context, container) = (self.context.clone(), endpoint.container.clone());
        let _turn = self.reading.lock().await;
        let read = move || flows::of_container(&context, &container, CONNECTIONS);
        let connections = tokio::task::spawn_blocking(read).await.map_err(|e| e.to_string())?;
        let connections = connections.map_err(|rejected| rejected.message)?;
        let history = HistoryPage { span: SPAN, points };
        Ok(Some(EndpointPage { endpoint, ports, history, connections }))
    }
}

impl Seen {
    fn take(&mut self, mut traffic: Traffic) {
        // Before the first reading there is no time that anything grew in.
        if self.traffic.clock != 0 {
            traffic::fill_rates(&mut traffic, &self.traffic);
        }
        self.history.take(&traffic);
        self.traffic = Arc::new(traffic);
    }
}

fn router(ui: Arc<Ui>) -> Router {
    let mut router = Router::new()
        .route("/api/traffic", get(current))
        .route("/api/endpoints/{id}", get(endpoint))
        .with_state(ui);
    for (path, kind, content) in FILES {
        router = router.route(path, get(move || async move { ([(CONTENT_TYPE, kind)], content) }));
    }
    router.layer(middleware::from_fn(guarded))
}

async fn current(State(ui): State<Arc<Ui>>) -> Response {
    let traffic = Arc::clone(&ui.seen().traffic);
    Json(&*traffic).into_response()
}

async fn endpoint(State(ui): State<Arc<Ui>>, Path(id): Path<String>) -> Response {
    match ui.page_of(&id).await {
        Ok(Some(page)) => Json(page).into_response(),
        Ok(None) => (StatusCode::NOT_FOUND, "there is no such endpoint\n").into_response(),
        Err(why) => (StatusCode::INTERNAL_SERVER_ERROR, why + "\n").into_response(),
    }
}

/// What holds for every request.
pub(super) async fn guarded(request: Request, next: Next) -> Response {
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    let mut response = if !matches!(*request.method(), Method::GET | Method::HEAD) {
        (StatusCode::METHOD_NOT_ALLOWED, "this page only shows\n").into_response()
    } else if host.is_some_and(is_ours) {
        next.run(request).await
    } else {
        let why = "this page is served by its address, or as localhost, and by no other name\n";
        (StatusCode::MISDIRECTED_REQUEST, why).into_response()
    };
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Whether a name leads here whoever answers questions about names: a site could have its own name lead to this
/// address, and its scripts read the page.
pub(super) fn is_ours(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let name = authority.host();
    let ip = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
    // What stands before an `@` is no part of a host.
    !host.contains('@') && (name.eq_ignore_ascii_case("localhost") || ip.parse::<IpAddr>().is_ok())
}
