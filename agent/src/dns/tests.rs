//! What comes from containers is anything: no message is too strange, and every answer is one.

use std::net::IpAddr;

use hickory_proto::{
    op::{Edns, Message, OpCode, Query, ResponseCode},
    rr::{Name, RData, RecordType},
};
use proptest::prelude::*;

use super::{
    answer::{self, Judged, Local, Manner},
    wire,
};

const MANNER: Manner = Manner { ttl: 0, longest: None, turn: 0 };

fn addresses(count: u8) -> Vec<IpAddr> {
    (0..count).map(|n| IpAddr::from([10, 0, 0, n])).collect()
}

pub(super) fn question(name: &str, kind: RecordType, edns: Option<u16>) -> Message {
    let mut message = Message::query();
    message.add_query(Query::query(Name::from_ascii(name).expect("a name"), kind));
    message.edns = edns.map(|payload| {
        let mut edns = Edns::new();
        edns.set_max_payload(payload);
        edns
    });
    message
}

/// The answer to a question about something that has these addresses.
fn answered(message: &Message, count: u8) -> Message {
    let bytes = message.to_vec().expect("a message");
    match answer::judge_by(&bytes, MANNER, |_| Local::Addresses(addresses(count))) {
        Judged::Answer { bytes, .. } => Message::from_vec(&bytes).expect("an answer"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn n28_a_known_name_without_such_data_says_so() {
    let asked = question("db.", RecordType::AAAA, None);
    let answer = answered(&asked, 1);
    assert_eq!(answer.metadata.id, asked.metadata.id);
    assert_eq!(answer.metadata.response_code, ResponseCode::NoError);
    assert!(answer.answers.is_empty() && answer.metadata.authoritative);
    assert_eq!(answer.queries, asked.queries);
}

#[test]
fn an_answer_fits_and_says_if_there_is_more() {
    let few = answered(&question("app.", RecordType::A, None), 20);
    assert_eq!((few.answers.len(), few.metadata.truncation), (20, false));
    let plain = answered(&question("app.", RecordType::A, None), 200);
    assert!(plain.metadata.truncation && (20..40).contains(&plain.answers.len()));
    let large = answered(&question("app.", RecordType::A, Some(4096)), 200);
    assert!(large.metadata.truncation && large.answers.len() > plain.answers.len());
    assert!(large.to_vec().expect("a message").len() <= 1232);
}

#[test]
fn s160_all_addresses_in_turns() {
    let bytes = question("app.", RecordType::A, None).to_vec().expect("a message");
    let first = |turn| {
        let manner = Manner { turn, ..MANNER };
        match answer::judge_by(&bytes, manner, |_| Local::Addresses(addresses(3))) {
            Judged::Answer { bytes, lasts, .. } => {
                assert!(!lasts);
                Message::from_vec(&bytes).expect("an answer").answers[0].data.clone()
            }
            other => panic!("{other:?}"),
        }
    };
    for turn in 0..3 {
        let expected = RData::A(hickory_proto::rr::rdata::A::new(10, 0, 0, turn as u8));
        assert_eq!(first(turn), expected);
    }
}

#[test]
fn moby_dns_007_strange_questions_are_refused_in_order() {
    let code = |message: &Message| answered(message, 1).metadata.response_code;
    let mut two = question("a.", RecordType::A, None);
    two.add_query(Query::query(Name::from_ascii("b.").expect("a name"), RecordType::A));
    assert_eq!(code(&two), ResponseCode::FormErr);
    for _ in 0..300 {
        two.add_query(Query::query(Name::from_ascii("c.").expect("a name"), RecordType::A));
    }
    let refusal = answered(&two, 1);
    assert_eq!(refusal.metadata.response_code, ResponseCode::FormErr);
    assert!(refusal.to_vec().expect("a message").len() <= 512, "no longer than a datagram may be");
    assert_eq!(code(&question("a.", RecordType::AXFR, None)), ResponseCode::Refused);
    let mut update = question("a.", RecordType::A, None);
    update.metadata.op_code = OpCode::Status;
    assert_eq!(code(&update), ResponseCode::NotImp);
    // A label of 64 bytes is none.
    let mut long = question("a.", RecordType::PTR, None).to_vec().expect("a message");
    long[12] = 64;
    let judged = answer::judge_by(&long, MANNER, |_| Local::Unknown);
    assert!(matches!(judged, Judged::Answer { code: ResponseCode::ServFail, .. }), "{judged:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn moby_dns_022_no_bytes_are_too_strange(
        noise in prop::collection::vec(any::<u8>(), 0..96),
        spoil in prop::collection::vec((0_usize..64, any::<u8>()), 0..6),
        cut in 0_usize..96,
        edns in prop::option::of(any::<u16>()),
    ) {
        let mut valid = question("c1.net.", RecordType::A, edns).to_vec().expect("a message");
        for (at, byte) in spoil {
            if let Some(spoiled) = valid.get_mut(at) {
                *spoiled = byte;
            }
        }
        valid.truncate(cut.max(1));
        for bytes in [noise, valid] {
            let judged = answer::judge_by(&bytes, MANNER, |_| Local::Addresses(addresses(40)));
            if let Judged::Answer { bytes: answer, .. } = judged {
                prop_assert_eq!(&answer[..2], &bytes[..2]);
                prop_assert!(answer[2] & 0x80 != 0 && answer.len() <= 1232);
                prop_assert!(Message::from_vec(&answer).is_ok());
            }
            let own = wire::for_another(&bytes);
            let mut relayed = own.clone();
            wire::age(&mut relayed, 7);
            wire::answer_to(&mut relayed, &bytes);
            prop_assert_eq!(relayed.len(), own.len());
            if let Some(comparable) = wire::comparable(&own) {
                prop_assert_eq!(wire::comparable(&relayed).map(|c| c.len()), Some(comparable.len()));
            }
            wire::lifetime(&bytes);
            if bytes.len() >= answer::HEADER {
                wire::fit(&mut relayed, answer::HEADER);
                prop_assert!(relayed.len() <= own.len());
            }
        }
    }
}
