//! An address at which processes of the host ask for names of containers, where the operator wants one. Any other name
//! is refused, so that the host's resolver asks elsewhere, and no question can go round in circles.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bascule_common::abi::QuestionKey;
use hickory_proto::{op::Query, rr::RecordType};
use tokio::{
    net::{TcpListener, TcpStream, UdpSocket},
    task::JoinSet,
    time,
};

use super::{
    answer::{self, Judged, Local},
    directory::{Directory, Found},
    engine::Engine,
    forward::Transport,
    framed,
    told::Exchange,
};
use crate::telemetry::By;

/// Connections at once.
const CONNECTIONS: usize = 64;
/// How long a connection may say nothing.
const IDLE: Duration = Duration::from_secs(10);

/// The address, taken.
#[derive(Debug)]
pub struct Stub {
    address: SocketAddr,
    udp: UdpSocket,
    tcp: TcpListener,
}

impl Stub {
    /// Takes it.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        let tcp = TcpListener::bind(address).await?;
        let address = tcp.local_addr()?;
        Ok(Self { address, udp: UdpSocket::bind(address).await?, tcp })
    }

    fn exchange(&self, client: SocketAddr, transport: Transport) -> Exchange {
        Exchange { client: client.ip(), asked: self.address, transport }
    }

    /// Answers, for as long as the agent runs.
    pub async fn run(self, engine: Arc<Engine>) {
        let turn = Arc::new(AtomicUsize::new(0));
        let mut connections = JoinSet::new();
        let mut question = vec![0; 4096];
        loop {
            tokio::select! {
                received = self.udp.recv_from(&mut question) => {
                    let Ok((length, client)) = received else { continue };
                    let bytes = &question[..length];
                    if let Some(answer) = judge(&engine, bytes, self.exchange(client, Transport::Udp), &turn) {
                        // Who cannot be told asks again.
                        self.udp.send_to(&answer, client).await.ok();
                    }
                }
                accepted = self.tcp.accept(), if connections.len() < CONNECTIONS => {
                    match accepted {
                        Ok((stream, client)) => {
                            let exchange = self.exchange(client, Transport::Tcp);
                            let (engine, turn) = (Arc::clone(&engine), Arc::clone(&turn));
                            connections.spawn(async move {
                                // Whoever breaks off has gone.
                                connection(&engine, stream, exchange, &turn).await.ok();
                            });
                        }
                        Err(_) => time::sleep(Duration::from_millis(100)).await,
                    }
                }
                Some(_) = connections.join_next() => {}
            }
        }
    }
}

async fn connection(
    engine: &Engine,
    mut stream: TcpStream,
    exchange: Exchange,
    turn: &AtomicUsize,
) -> io::Result<()> {
    while let Some(question) = framed::read(&mut stream, IDLE, IDLE).await? {
        let Some(answer) = judge(engine, &question, exchange, turn) else { break };
        framed::write(&mut stream, &answer, IDLE).await?;
    }
    Ok(())
}

fn judge(
    engine: &Engine,
    question: &[u8],
    exchange: Exchange,
    turn: &AtomicUsize,
) -> Option<Vec<u8>> {
    let view = engine.view();
    let manner = Engine::manner(&view, exchange.transport, turn.fetch_add(1, Ordering::Relaxed));
    match answer::judge_by(question, manner, |question| know(&view.directory, question)) {
        Judged::Answer { bytes, code, .. } => {
            engine.metrics().answered(QuestionKey::HOST, By::Local, code.into());
            engine.tell(exchange, &bytes, By::Local, Duration::ZERO);
            Some(bytes)
        }
        Judged::Forward | Judged::Ignore => None,
    }
}

fn know(directory: &Directory, question: &Query) -> Local {
    if question.query_type == RecordType::PTR {
        let address = answer::address_of(&question.name);
        let names = address.and_then(|address| directory.names_for_host(address));
        return names.map_or(Local::Refused, |names| Local::Names(names.to_vec()));
    }
    let Some(name) = answer::text_of(&question.name) else { return Local::Refused };
    match directory.for_host(&name) {
        Found::Addresses(addresses) => Local::Addresses(addresses),
        Found::Nobody => Local::Nobody,
        Found::Unknown => Local::Refused,
    }
}
