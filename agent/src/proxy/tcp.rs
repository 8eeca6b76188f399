//! TCP: each side's end of stream is passed on by itself, a reset as a reset.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use bascule_common::wire::proto;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time,
};

use super::Context;

/// How long a container may take to answer.
const CONNECT: Duration = Duration::from_secs(20);
/// How long to wait where the kernel gives no socket.
const PAUSE: Duration = Duration::from_millis(200);

/// Accepts clients, as many at a time as there are permits; more wait in the kernel's queue.
pub(super) async fn serve(listener: TcpListener, context: Arc<Context>, permits: Arc<Semaphore>) {
    loop {
        // Nobody closes it.
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
        let client = match listener.accept().await {
            Ok((client, _)) => client,
            Err(error) => {
                tracing::warn!(%error, "the proxy cannot take a connection");
                time::sleep(PAUSE).await;
                continue;
            }
        };
        let context = Arc::clone(&context);
        tokio::spawn(async move {
            let count = context.metrics.proxy.begin("tcp");
            carry(client, &context).await;
            drop((count, permit));
        });
    }
}

async fn carry(mut client: TcpStream, context: &Context) {
    let proxy = &context.metrics.proxy;
    let asked = client.local_addr().map(canonical);
    let Some(backend) = asked.ok().and_then(|to| context.ports.backend(proto::TCP, to)) else {
        proxy.refuse("tcp", "unpublished");
        return reset(&client);
    };
    let mut server = match time::timeout(CONNECT, TcpStream::connect(backend)).await {
        Ok(Ok(server)) => server,
        Ok(Err(error)) => {
            tracing::debug!(%backend, %error, "the proxy does not reach a container");
            proxy.refuse("tcp", "unreachable");
            return reset(&client);
        }
        Err(_) => {
            proxy.refuse("tcp", "unreachable");
            return reset(&client);
        }
    };
    if let Err(error) = splice(&mut client, &mut server).await {
        tracing::debug!(%backend, %error, "a connection of the proxy was broken off");
        reset(&client);
        reset(&server);
    }
}

async fn splice(client: &mut TcpStream, server: &mut TcpStream) -> io::Result<()> {
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    copy_bidirectional(client, server).await.map(drop)
}

/// Has a connection end with a reset when it is dropped, as it would have without a proxy.
fn reset(stream: &TcpStream) {
    // It ends in any case.
    drop(stream.set_zero_linger());
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
