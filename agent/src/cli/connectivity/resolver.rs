//! Names as a container looks them up: at the name servers of its `/etc/resolv.conf`, over UDP.

use std::{
    fs, io,
    net::{IpAddr, SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use hickory_proto::{
    op::{Message, Query, ResponseCode},
    rr::{Name, RData, RecordType},
};

use super::{
    super::args::Family,
    probe::{inside, rest, words},
    stage::Sandbox,
};

/// Returns the addresses that a container finds for a name.
pub fn lookup(
    sandbox: &Sandbox,
    name: &str,
    family: Family,
    limit: Duration,
) -> Result<Vec<IpAddr>, String> {
    let path = &sandbox.resolv_conf;
    let text = fs::read_to_string(path)
        .map_err(|error| format!("cannot read {}: {}", path.display(), words(&error)))?;
    let server = servers(&text).next();
    let server = server.ok_or_else(|| format!("there is no name server in {}", path.display()))?;
    let answer = ask(sandbox, server, &question(name, family)?, limit)
        .map_err(|error| format!("name server {server}: {error}"))?;
    match answer.metadata.response_code {
        ResponseCode::NoError => {
            Ok(answer.answers.iter().filter_map(|r| address(&r.data)).collect())
        }
        code => Err(format!("name server {server} says: {code}")),
    }
}

fn servers(resolv_conf: &str) -> impl Iterator<Item = IpAddr> {
    resolv_conf.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        words.next().filter(|word| *word == "nameserver").and(words.next())?.parse().ok()
    })
}

fn address(data: &RData) -> Option<IpAddr> {
    match data {
        RData::A(address) => Some(address.0.into()),
        RData::AAAA(address) => Some(address.0.into()),
        _ => None,
    }
}

fn question(name: &str, family: Family) -> Result<Message, String> {
    let kind = match family {
        Family::V4 => RecordType::A,
        Family::V6 => RecordType::AAAA,
    };
    let full = format!("{}.", name.trim_end_matches('.'));
    let name = Name::from_ascii(full).map_err(|error| format!("{name} is no name: {error}"))?;
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(name, kind));
    Ok(message)
}

fn ask(
    sandbox: &Sandbox,
    server: IpAddr,
    question: &Message,
    limit: Duration,
) -> Result<Message, String> {
    let bytes = question.to_vec().map_err(|error| error.to_string())?;
    let socket = inside(&sandbox.namespace, || {
        let any = if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any)?;
        socket.connect(SocketAddr::new(server, 53))?;
        socket.send(&bytes)?;
        Ok(socket)
    })?;
    let end = Instant::now() + limit;
    let mut buffer = [0; 4096];
    let next = |buffer: &mut [u8]| -> io::Result<usize> {
        socket.set_read_timeout(Some(rest(end)?))?;
        socket.recv(buffer)
    };
    loop {
        let length = next(&mut buffer).map_err(|error| words(&error))?;
        match Message::from_vec(&buffer[..length]) {
            Ok(answer) if answer.metadata.id == question.metadata.id => return Ok(answer),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p94_name_servers_are_those_of_the_file() {
        let text = "# nameserver 192.0.2.1\nnameserver 127.0.0.11\nsearch lan\nnameserver ::1\n";
        let found: Vec<_> = servers(text).collect();
        assert_eq!(found, ["127.0.0.11", "::1"].map(|a| a.parse::<IpAddr>().expect("good")));
    }
}
