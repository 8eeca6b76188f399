//! From a question to an answer, as far as the directory knows one: wire format in, wire format out.

use std::net::IpAddr;

use hickory_proto::{
    op::{Edns, Message, MessageType, Metadata, OpCode, Query, ResponseCode},
    rr::{
        DNSClass, Name, RData, Record, RecordType,
        rdata::{A, AAAA, PTR},
    },
};

use super::directory::{Asker, Found};

/// What an answer without EDNS may be long.
const PLAIN: usize = 512;
/// What is promised to those who speak EDNS, and taken from them: what fits every link.
pub(super) const PAYLOAD: u16 = 1232;
/// The header of a message.
pub(super) const HEADER: usize = 12;

/// What becomes of a question.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Judged {
    /// It is answered here.
    Answer {
        /// The message.
        bytes: Vec<u8>,
        /// Its code.
        code: ResponseCode,
        /// Whether the same question gets the same answer as long as no name changes.
        lasts: bool,
    },
    /// Somebody else knows.
    Forward,
    /// No answer: it is no question.
    Ignore,
}

/// How questions are answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manner {
    /// How long clients may remember a name, in seconds.
    pub(super) ttl: u32,
    /// How long an answer may be; none is what a datagram's question says.
    pub(super) longest: Option<usize>,
    /// Where in the addresses of a name to begin.
    pub(super) turn: usize,
}

/// Judges a question of a container's, or of nobody's whom we know.
pub(super) fn judge(asker: Option<&Asker<'_>>, bytes: &[u8], manner: Manner) -> Judged {
    judge_by(bytes, manner, |question| match asker {
        Some(asker) => local(asker, question),
        None => Local::Refused,
    })
}

/// What is known here about a question.
pub(super) enum Local {
    /// These addresses.
    Addresses(Vec<IpAddr>),
    /// These names.
    Names(Vec<String>),
    /// The name is nobody's now.
    Nobody,
    /// Nothing.
    Unknown,
    /// Whoever asks is told nothing.
    Refused,
}

/// Judges a question by what `know` knows.
pub(super) fn judge_by(bytes: &[u8], manner: Manner, know: impl FnOnce(&Query) -> Local) -> Judged {
    let request = match Message::from_vec(bytes) {
        Ok(request) => request,
        // Without a header there is nobody to answer; and answers get none.
        Err(_) if bytes.len() < HEADER || bytes[2] & 0x80 != 0 => return Judged::Ignore,
        Err(_) => return fault(bytes, ResponseCode::ServFail),
    };
    if request.metadata.message_type != MessageType::Query {
        return Judged::Ignore;
    }
    let reply = Reply { request: &request, manner };
    if request.metadata.op_code != OpCode::Query {
        return reply.code(ResponseCode::NotImp);
    }
    if request.edns.as_ref().is_some_and(|edns| edns.version() != 0) {
        return reply.code(ResponseCode::BADVERS);
    }
    let [question] = request.queries.as_slice() else {
        return reply.code(ResponseCode::FormErr);
    };
    if question.query_class != DNSClass::IN
        || matches!(question.query_type, RecordType::AXFR | RecordType::IXFR)
    {
        return reply.code(ResponseCode::Refused);
    }
    match know(question) {
        Local::Addresses(addresses) => reply.addresses(question, &addresses),
        Local::Names(names) => reply.names(question, &names),
        Local::Nobody => reply.code(ResponseCode::NXDomain),
        Local::Refused => reply.code(ResponseCode::Refused),
        Local::Unknown => Judged::Forward,
    }
}

/// Returns the answer that says no more than a code.
pub(super) fn fault(request: &[u8], code: ResponseCode) -> Judged {
    let Some(&[a, b, flags, ..]) = request.first_chunk::<HEADER>().map(|h| &h[..]) else {
        return Judged::Ignore;
    };
    let id = u16::from_be_bytes([a, b]);
    let mut answer = Message::response(id, OpCode::from_u8((flags >> 3) & 0xf));
    answer.metadata.response_code = code;
    answer.metadata.recursion_available = true;
    match answer.to_vec() {
        Ok(bytes) => Judged::Answer { bytes, code, lasts: false },
        Err(_) => Judged::Ignore,
    }
}

/// Returns the answer to a question that nobody answers in time, or may answer.
pub(super) fn without(bytes: &[u8], code: ResponseCode) -> Option<Vec<u8>> {
    let manner = Manner { ttl: 0, longest: None, turn: 0 };
    let judged = match Message::from_vec(bytes) {
        Ok(request) => Reply { request: &request, manner }.code(code),
        Err(_) => fault(bytes, code),
    };
    match judged {
        Judged::Answer { bytes, .. } => Some(bytes),
        Judged::Forward | Judged::Ignore => None,
    }
}

/// Returns how long an answer to a datagram may be.
pub(super) fn longest(request: &[u8]) -> usize {
    let edns = Message::from_vec(request).ok().and_then(|request| request.edns);
    edns.map_or(PLAIN, |edns| usize::from(edns.max_payload().clamp(512, 4096)))
}

/// Returns a question's name in text, if every label is of characters that a name of ours may have.
pub(super) fn text_of(name: &Name) -> Option<String> {
    let mut text = String::new();
    for label in name.iter() {
        if !label.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'.') {
            return None;
        }
        if !text.is_empty() {
            text.push('.');
        }
        text.extend(label.iter().map(|byte| char::from(*byte)));
    }
    (!text.is_empty()).then_some(text)
}

/// Returns the one address that a name below `arpa` stands for.
pub(super) fn address_of(name: &Name) -> Option<IpAddr> {
    let net = name.parse_arpa_name().ok()?;
    (net.prefix_len() == net.max_prefix_len()).then(|| net.addr())
}

fn local(asker: &Asker<'_>, question: &Query) -> Local {
    if let Some(address) = address_of(&question.name) {
        return match asker.names(address) {
            Some([]) => Local::Nobody,
            Some(names) => Local::Names(names.to_vec()),
            None => Local::Unknown,
        };
    }
    let Some(name) = text_of(&question.name) else { return Local::Unknown };
    match asker.resolve(&name) {
        Found::Addresses(addresses) => Local::Addresses(addresses),
        Found::Nobody => Local::Nobody,
        Found::Unknown => Local::Unknown,
    }
}

/// An answer in the making.
struct Reply<'a> {
    request: &'a Message,
    manner: Manner,
}

impl Reply<'_> {
    fn message(&self, code: ResponseCode) -> Message {
        let request = &self.request.metadata;
        let mut answer = Message::response(request.id, request.op_code);
        answer.metadata = Metadata::response_from_request(request);
        answer.metadata.authoritative = code != ResponseCode::ServFail;
        answer.metadata.recursion_available = true;
        answer.metadata.response_code = code;
        // Hundreds of questions are refused in few words: a datagram has room for no more.
        if let [question] = self.request.queries.as_slice() {
            answer.queries = vec![question.clone()];
        }
        if self.request.edns.is_some() {
            let mut edns = Edns::new();
            edns.set_max_payload(PAYLOAD);
            answer.edns = Some(edns);
        }
        answer
    }

    fn code(&self, code: ResponseCode) -> Judged {
        finish(&self.message(code), code, true)
    }

    /// The addresses of the family that is asked for: of a name that has none there is no data, at once.
    fn addresses(&self, question: &Query, addresses: &[IpAddr]) -> Judged {
        let record = |address: &IpAddr| {
            let data = match (address, question.query_type) {
                (IpAddr::V4(v4), RecordType::A | RecordType::ANY) => RData::A(A(*v4)),
                (IpAddr::V6(v6), RecordType::AAAA | RecordType::ANY) => RData::AAAA(AAAA(*v6)),
                _ => return None,
            };
            Some(Record::from_rdata(question.name.clone(), self.manner.ttl, data))
        };
        let mut records: Vec<_> = addresses.iter().filter_map(record).collect();
        let several = records.len() > 1;
        if several {
            let by = self.manner.turn % records.len();
            records.rotate_left(by);
        }
        self.records(records, !several)
    }

    fn names(&self, question: &Query, names: &[String]) -> Judged {
        if !matches!(question.query_type, RecordType::PTR | RecordType::ANY) {
            return self.records(Vec::new(), true);
        }
        // An alias may be no name of DNS: it is left out.
        let names = names.iter().filter_map(|name| Name::from_labels(name.split('.')).ok());
        let record = |name| {
            Record::from_rdata(question.name.clone(), self.manner.ttl, RData::PTR(PTR(name)))
        };
        self.records(names.map(record).collect(), true)
    }

    /// As many records as fit; the client is told if there are more.
    fn records(&self, records: Vec<Record>, lasts: bool) -> Judged {
        let longest = self.manner.longest.unwrap_or_else(|| {
            let edns = self.request.edns.as_ref();
            edns.map_or(PLAIN, |edns| edns.max_payload().clamp(512, PAYLOAD).into())
        });
        let mut answer = self.message(ResponseCode::NoError);
        answer.answers = records;
        loop {
            let judged = finish(&answer, ResponseCode::NoError, lasts);
            match &judged {
                Judged::Answer { bytes, .. } if bytes.len() > longest => {
                    let over = (bytes.len() - longest).div_ceil(28).max(1);
                    let keep = answer.answers.len().saturating_sub(over);
                    answer.answers.truncate(keep);
                    answer.metadata.truncation = true;
                }
                _ => return judged,
            }
            if answer.answers.is_empty() {
                return finish(&answer, ResponseCode::NoError, lasts);
            }
        }
    }
}

fn finish(answer: &Message, code: ResponseCode, lasts: bool) -> Judged {
    match answer.to_vec() {
        Ok(bytes) => Judged::Answer { bytes, code, lasts },
        Err(error) => {
            tracing::debug!(%error, "an answer cannot be written");
            Judged::Ignore
        }
    }
}
