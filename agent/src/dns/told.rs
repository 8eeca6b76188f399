//! Questions and their answers, for those who watch: `bascule monitor --dns`.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use hickory_proto::{
    op::Message,
    rr::{Name, RData},
};
use jiff::Timestamp;

use super::{answer::Manner, engine::View, forward::Transport, wire};
use crate::telemetry::{By, Seen, code_name};

/// Where containers ask.
const PORT: u16 = 53;
/// More records of an answer are not told.
const MOST: usize = 16;

/// Who asked, at which address, and how.
#[derive(Clone, Copy, Debug)]
pub(super) struct Exchange {
    pub(super) client: IpAddr,
    pub(super) asked: SocketAddr,
    pub(super) transport: Transport,
}

impl Exchange {
    /// The one of a container's question that is answered in this manner.
    pub(super) const fn of(client: IpAddr, asked: IpAddr, manner: Manner) -> Self {
        let transport = match manner.longest {
            None => Transport::Udp,
            Some(_) => Transport::Tcp,
        };
        Self { client, asked: SocketAddr::new(asked, PORT), transport }
    }
}

/// Tells of an answer.
pub(super) fn seen(
    view: &View,
    Exchange { client, asked, transport }: Exchange,
    answer: &[u8],
    by: By,
    took: Duration,
) -> Seen {
    let asker = view.directory.asker(client, asked.ip());
    let container = asker.and_then(|a| view.wish.desired.containers.get(&a.container()));
    // What cannot be read is told by its code alone.
    let message = Message::from_vec(answer).ok();
    let question = message.as_ref().and_then(|message| message.queries.first());
    let records = message.iter().flat_map(|message| &message.answers);
    Seen {
        time: Timestamp::now().to_string(),
        kind: "dns".to_owned(),
        network: asker.map_or("host", |asker| asker.network()).to_owned(),
        proto: match transport {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
        }
        .to_owned(),
        from: container.map_or_else(|| "host".to_owned(), |container| container.name.to_string()),
        source: client.to_string(),
        destination: asked.to_string(),
        query: question.map(|question| plain(&question.name)).unwrap_or_default(),
        query_type: question.map(|question| question.query_type.to_string()).unwrap_or_default(),
        code: code_name(wire::code(answer).into()),
        answered_by: by.label().to_owned(),
        answers: records.take(MOST).map(|record| told(&record.data)).collect(),
        microseconds: took.as_micros().try_into().unwrap_or(u64::MAX),
        ..Seen::default()
    }
}

/// A name without the dot of the root; what is not printable is escaped.
fn plain(name: &Name) -> String {
    let text = name.to_ascii();
    text.strip_suffix('.').filter(|text| !text.is_empty()).unwrap_or(&text).to_owned()
}

/// What a record says, if that is an address or a name, else its type: what others write is not for terminals.
fn told(data: &RData) -> String {
    match data {
        RData::A(address) => address.to_string(),
        RData::AAAA(address) => address.to_string(),
        RData::PTR(name) => plain(name),
        RData::CNAME(name) => plain(name),
        other => other.record_type().to_string(),
    }
}
