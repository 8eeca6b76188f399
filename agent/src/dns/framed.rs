//! Messages on a connection: each after its length (RFC 1035, section 4.2.2).

use std::{io, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

/// Reads a message: one that begins within `idle`, and is whole within `message` after that. None: there is no more.
pub(super) async fn read(
    stream: &mut TcpStream,
    idle: Duration,
    message: Duration,
) -> io::Result<Option<Vec<u8>>> {
    let length = match timeout(idle, stream.read_u16()).await? {
        Ok(length) => length,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = vec![0; length.into()];
    timeout(message, stream.read_exact(&mut bytes)).await??;
    Ok(Some(bytes))
}

/// Writes a message, in one piece.
pub(super) async fn write(
    stream: &mut TcpStream,
    bytes: &[u8],
    message: Duration,
) -> io::Result<()> {
    let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
    let framed = [&length.to_be_bytes(), bytes].concat();
    timeout(message, stream.write_all(&framed)).await?
}
