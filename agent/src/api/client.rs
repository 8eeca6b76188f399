//! The other end of the socket: one request, one connection, one reply.
//!
//! For the command line. It blocks, on a runtime of the calling thread, so that no thread of ours
//! is around when a command is started.

use std::{
    io,
    ops::ControlFlow,
    path::{Path, PathBuf},
    time::Duration,
};

use http_body_util::{BodyExt, Full};
use hyper::{
    Method, Request, StatusCode,
    body::{Bytes, Incoming},
    client::conn::http1,
    header::{CONTENT_TYPE, HOST},
};
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use tokio::{net::UnixStream, runtime, task::JoinHandle};

use super::{paths, proto::ErrorReply};

/// Attaching a container takes milliseconds; an agent that is silent for this long hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why a request got no good answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answers at the socket.
    #[error(
        "cannot reach the agent at {}: {}; is `bascule agent` running?",
        socket.display(),
        reason(source)
    )]
    Unreachable {
        /// Where it was looked for.
        socket: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The socket is not for this user.
    #[error(
        "cannot reach the agent at {}: permission denied; run as root, or as a member of the group that owns the socket",
        socket.display()
    )]
    Denied {
        /// The socket.
        socket: PathBuf,
    },
    /// The agent says no.
    #[error("Error response from daemon: {message}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// Why.
        message: String,
    },
    /// The connection broke, or no HTTP came back.
    #[error("the agent at {} did not answer {request}: {reason}", socket.display())]
    Broken {
        /// The socket.
        socket: PathBuf,
        /// Method and path.
        request: String,
        /// What happened.
        reason: String,
    },
    /// An answer came back that this client does not understand.
    #[error(
        "the answer to {request} is not understood: {source}; are agent and client of one version?"
    )]
    Unreadable {
        /// Method and path.
        request: String,
        /// Where it stopped to make sense.
        source: serde_json::Error,
    },
}

impl ClientError {
    /// Tells whether the agent said that there is no such thing.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { status: 404, .. })
    }

    /// Tells whether the agent said that it is not allowed.
    pub fn is_forbidden(&self) -> bool {
        matches!(self, Self::Refused { status: 403, .. })
    }

    /// Tells whether the agent answered, and refused.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused { .. })
    }
}

/// The kernel's words without the number that Rust adds.
fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

/// A client of the agent at one socket.
#[derive(Debug)]
pub struct Client {
    socket: PathBuf,
    patience: Duration,
    runtime: runtime::Runtime,
}

impl Client {
    /// Makes a client of the agent with this run directory. Nothing is connected yet.
    pub fn new(run_dir: &Path) -> io::Result<Self> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { socket: run_dir.join(paths::SOCKET), patience: PATIENCE, runtime })
    }

    /// Waits longer for what is known to take so long.
    pub fn allow(&mut self, longer: Duration) {
        self.patience += longer;
    }

    /// Reads something.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.call(Method::GET, path, None::<&()>)
    }

    /// Sends something, and reads the reply.
    pub fn post<B: Serialize, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> Result<T, ClientError> {
        self.call(Method::POST, path, Some(body))
    }

    /// Asks for something that needs no words, and reads the reply.
    pub fn request<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.call(Method::POST, path, None::<&()>)
    }

    /// Sends something; the reply has no content.
    pub fn act<B: Serialize>(&self, path: &str, body: Option<&B>) -> Result<(), ClientError> {
        self.exchange(Method::POST, path, body).map(drop)
    }

    /// Removes something.
    pub fn delete(&self, path: &str) -> Result<(), ClientError> {
        self.exchange(Method::DELETE, path, None::<&()>).map(drop)
    }

    /// Removes what is named by something sent.
    pub fn remove<B: Serialize>(&self, path: &str, body: &B) -> Result<(), ClientError> {
        self.exchange(Method::DELETE, path, Some(body)).map(drop)
    }

    fn call<B: Serialize, T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&B>,
    ) -> Result<T, ClientError> {
        let request = format!("{method} {path}");
        let answer = self.exchange(method, path, body)?;
        serde_json::from_slice(&answer)
            .map_err(|source| ClientError::Unreadable { request, source })
    }

    fn exchange<B: Serialize>(
        &self,
        method: Method,
        path: &str,
        body: Option<&B>,
    ) -> Result<Bytes, ClientError> {
        let name = format!("{method} {path}");
        let broken = |reason: String| ClientError::Broken {
            socket: self.socket.clone(),
            request: name.clone(),
            reason,
        };
        let mut request = Request::builder().method(method).uri(path).header(HOST, "bascule");
        let body = match body {
            Some(body) => {
                request = request.header(CONTENT_TYPE, "application/json");
                serde_json::to_vec(body).map_err(|error| broken(error.to_string()))?
            }
            None => Vec::new(),
        };
        let request = request.body(Full::from(body)).map_err(|error| broken(error.to_string()))?;
        self.runtime.block_on(async {
            tokio::time::timeout(self.patience, self.send(request, &broken)).await.unwrap_or_else(
                |_| Err(broken(format!("no reply within {} seconds", self.patience.as_secs()))),
            )
        })
    }

    /// Reads a stream of lines, until it ends or `each` has had enough.
    pub fn lines(
        &self,
        path: &str,
        mut each: impl FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<(), ClientError> {
        let broken = |reason: String| ClientError::Broken {
            socket: self.socket.clone(),
            request: format!("GET {path}"),
            reason,
        };
        let request = Request::builder().method(Method::GET).uri(path).header(HOST, "bascule");
        let request = request.body(Full::from(Vec::new())).map_err(|e| broken(e.to_string()))?;
        self.runtime.block_on(async {
            let (mut body, connection) = self.begin(request, &broken).await?;
            let mut rest = Vec::new();
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|error| broken(error.to_string()))?;
                rest.extend(frame.into_data().unwrap_or_default());
                while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<_> = rest.drain(..=end).collect();
                    if each(&line).is_break() {
                        connection.abort();
                        return Ok(());
                    }
                }
            }
            Ok(())
        })
    }

    async fn send(
        &self,
        request: Request<Full<Bytes>>,
        broken: &impl Fn(String) -> ClientError,
    ) -> Result<Bytes, ClientError> {
        let (body, connection) = self.begin(request, broken).await?;
        let content = body.collect().await.map_err(|error| broken(error.to_string()))?.to_bytes();
        connection.abort();
        Ok(content)
    }

    /// Sends a request, and returns the body of a good reply with what carries it.
    async fn begin(
        &self,
        request: Request<Full<Bytes>>,
        broken: &impl Fn(String) -> ClientError,
    ) -> Result<(Incoming, JoinHandle<hyper::Result<()>>), ClientError> {
        let stream =
            UnixStream::connect(&self.socket).await.map_err(|source| match source.kind() {
                io::ErrorKind::PermissionDenied => {
                    ClientError::Denied { socket: self.socket.clone() }
                }
                _ => ClientError::Unreachable { socket: self.socket.clone(), source },
            })?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| broken(error.to_string()))?;
        // It ends with the reply; what it would say then, the request has said.
        let connection = tokio::spawn(connection);
        let reply =
            sender.send_request(request).await.map_err(|error| broken(error.to_string()))?;
        let status = reply.status();
        // Docker's way to say that it is so already.
        if status.is_success() || status == StatusCode::NOT_MODIFIED {
            return Ok((reply.into_body(), connection));
        }
        let content = reply.into_body().collect().await;
        connection.abort();
        let content = content.map_err(|error| broken(error.to_string()))?.to_bytes();
        Err(refusal(status, &content))
    }
}

/// Makes the error of a reply that is not a success, also where it is not JSON.
fn refusal(status: StatusCode, content: &[u8]) -> ClientError {
    let message = match serde_json::from_slice::<ErrorReply>(content) {
        Ok(reply) if !reply.message.is_empty() => reply.message,
        _ => match String::from_utf8_lossy(content).trim() {
            "" => status.to_string(),
            text => text.to_owned(),
        },
    };
    ClientError::Refused { status: status.as_u16(), message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_agent_is_told_with_its_socket() {
        let dir = tempfile::tempdir().expect("a directory");
        let client = Client::new(dir.path()).expect("a client");
        let error = client.get::<serde_json::Value>(paths::VERSION).expect_err("nobody there");
        let socket = dir.path().join("bascule.sock");
        assert_eq!(
            error.to_string(),
            format!(
                "cannot reach the agent at {}: no such file or directory; is `bascule agent` running?",
                socket.display()
            )
        );
    }

    #[test]
    fn refusals_carry_the_agents_message() {
        let error = refusal(StatusCode::NOT_FOUND, br#"{"message":"network x not found"}"#);
        assert_eq!(error.to_string(), "Error response from daemon: network x not found");
        assert!(error.is_not_found());
        let error = refusal(StatusCode::BAD_GATEWAY, b"");
        assert_eq!(error.to_string(), "Error response from daemon: 502 Bad Gateway");
    }
}
