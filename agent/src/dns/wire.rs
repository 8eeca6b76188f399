//! Messages of others, changed in place: what is relayed is not read and written anew, so that nothing of it is lost.

use super::answer::HEADER;

/// The flag of an answer that did not fit.
const TRUNCATED: u8 = 0x02;
const SOA: u16 = 6;
const OPT: u16 = 41;

/// How long an answer holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lifetime {
    pub(super) seconds: u32,
    /// It says that there is no such name, or no such data.
    pub(super) denial: bool,
}

/// A record, by where it is.
struct Record {
    kind: u16,
    /// Where its time stands.
    ttl: usize,
    data: std::ops::Range<usize>,
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// Where a name ends.
fn after_name(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *bytes.get(at)? {
            0 => return Some(at + 1),
            pointer if pointer & 0xc0 == 0xc0 => return Some(at + 2),
            length if length & 0xc0 == 0 => at += 1 + usize::from(length),
            _ => return None,
        }
    }
}

/// The bytes of the one question; none where there is another number of them.
pub(super) fn question(bytes: &[u8]) -> Option<&[u8]> {
    if u16_at(bytes, 4)? != 1 {
        return None;
    }
    bytes.get(HEADER..after_name(bytes, HEADER)? + 4)
}

fn records(bytes: &[u8]) -> Option<Vec<Record>> {
    let mut at = HEADER + question(bytes)?.len();
    let mut records = Vec::new();
    let counts = [u16_at(bytes, 6)?, u16_at(bytes, 8)?, u16_at(bytes, 10)?];
    for _ in 0..counts.iter().map(|count| usize::from(*count)).sum() {
        at = after_name(bytes, at)?;
        let (kind, length) = (u16_at(bytes, at)?, usize::from(u16_at(bytes, at + 8)?));
        let data = at + 10..at + 10 + length;
        bytes.get(data.clone())?;
        records.push(Record { kind, ttl: at + 4, data: data.clone() });
        at = data.end;
    }
    Some(records)
}

/// Returns a request without what EDNS says from one hop to the next: cookies, and where the client is.
pub(super) fn for_another(request: &[u8]) -> Vec<u8> {
    let mut own = request.to_vec();
    let last = records(request).and_then(|mut records| records.pop());
    if let Some(last) = last.filter(|last| last.kind == OPT && last.data.end == request.len()) {
        own.truncate(last.data.start);
        if let Some(length) = own.get_mut(last.data.start - 2..) {
            length.fill(0);
        }
    }
    own
}

/// Returns a request as it is compared with others: without its number, the case of its name, and what it leaves to
/// whoever answers. None: it has more than a question and what EDNS says of flags.
pub(super) fn comparable(request: &[u8]) -> Option<Vec<u8>> {
    let question = question(request)?;
    let records = records(request)?;
    let mut comparable = vec![request[2] & 0x79, request[3] & 0x30];
    comparable.extend(question.iter().map(u8::to_ascii_lowercase));
    for record in records {
        // Whatever else is there may make a difference.
        if record.kind != OPT || !record.data.is_empty() {
            return None;
        }
        comparable.extend(request.get(record.ttl - 2..record.ttl + 4)?);
    }
    Some(comparable)
}

/// Returns how long an answer holds; none: it is not to be kept.
pub(super) fn lifetime(answer: &[u8]) -> Option<Lifetime> {
    let [.., flags, code] = *answer.first_chunk::<4>()?;
    let (code, answers) = (code & 0x0f, u16_at(answer, 6)?);
    if flags & TRUNCATED != 0 || !matches!(code, 0 | 3) {
        return None;
    }
    let records = records(answer)?;
    let ttl = |record: &Record| u32_at(answer, record.ttl);
    if answers > 0 && code == 0 {
        let kept = records.iter().filter(|record| record.kind != OPT);
        let seconds = kept.filter_map(ttl).min()?;
        return Some(Lifetime { seconds, denial: false });
    }
    // RFC 2308: without the zone's own word nothing is known about how long it holds.
    let soa = records.iter().find(|record| record.kind == SOA)?;
    let minimum = u32_at(answer, soa.data.end.checked_sub(4)?)?;
    Some(Lifetime { seconds: minimum.min(ttl(soa)?), denial: true })
}

/// Counts the times of an answer down.
pub(super) fn age(answer: &mut [u8], seconds: u32) {
    for record in records(answer).into_iter().flatten().filter(|record| record.kind != OPT) {
        let Some(left) = u32_at(answer, record.ttl).map(|ttl| ttl.saturating_sub(seconds)) else {
            continue;
        };
        if let Some(ttl) = answer.get_mut(record.ttl..record.ttl + 4) {
            ttl.copy_from_slice(&left.to_be_bytes());
        }
    }
}

/// Makes an answer one to this request: its number, and its name as it was spelled.
pub(super) fn answer_to(answer: &mut [u8], request: &[u8]) {
    if let (Some(to), Some(from)) = (answer.get_mut(..2), request.get(..2)) {
        to.copy_from_slice(from);
    }
    if let Some(asked) = question(request)
        && question(answer).is_some_and(|own| own.eq_ignore_ascii_case(asked))
        && let Some(to) = answer.get_mut(HEADER..HEADER + asked.len())
    {
        to.copy_from_slice(asked);
    }
}

/// Tells whether a message answers a request.
pub(super) fn answers(message: &[u8], request: &[u8]) -> bool {
    let is_answer = message.get(2).is_some_and(|flags| flags & 0x80 != 0);
    let same = match (question(message), question(request)) {
        (Some(own), Some(asked)) => own.eq_ignore_ascii_case(asked),
        // Some servers leave the question out where they refuse.
        (None, _) => message.get(4..6) == Some(&[0, 0]) && code(message) != 0,
        _ => false,
    };
    is_answer && same && message.get(..2) == request.get(..2)
}

/// The code of an answer.
pub(super) fn code(answer: &[u8]) -> u8 {
    answer.get(3).map_or(2, |flags| flags & 0x0f)
}

/// Cuts an answer down to its question where it is longer than it may be, and says so.
pub(super) fn fit(answer: &mut Vec<u8>, longest: usize) {
    if answer.len() <= longest {
        return;
    }
    let keep = HEADER + question(answer).map_or(0, <[u8]>::len);
    answer.truncate(keep);
    answer[2] |= TRUNCATED;
    let questions = u8::from(keep > HEADER);
    answer[4..HEADER].copy_from_slice(&[0, questions, 0, 0, 0, 0, 0, 0]);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A question about `a.B` with the number 1, and an answer to it that holds for 300 s.
    fn pair() -> (Vec<u8>, Vec<u8>) {
        let mut question =
            vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, b'a', 1, b'B', 0, 0, 1, 0, 1];
        let mut answer = question.clone();
        answer[2] = 0x81;
        answer[7] = 1;
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 1, 44, 0, 4, 192, 0, 2, 7]);
        question[1] = 9;
        (question, answer)
    }

    #[test]
    fn an_answer_ages_and_is_given_to_another_request() {
        let (request, mut answer) = pair();
        assert_eq!(lifetime(&answer), Some(Lifetime { seconds: 300, denial: false }));
        age(&mut answer, 100);
        assert_eq!(lifetime(&answer), Some(Lifetime { seconds: 200, denial: false }));
        assert!(!answers(&answer, &request), "another number");
        answer[15] = b'b';
        answer_to(&mut answer, &request);
        assert!(answers(&answer, &request));
        assert_eq!(question(&answer), question(&request), "as it was spelled");
    }

    #[test]
    fn what_does_not_fit_is_cut_down_to_the_question() {
        let (_, mut answer) = pair();
        let whole = answer.clone();
        fit(&mut answer, whole.len());
        assert_eq!(answer, whole);
        fit(&mut answer, whole.len() - 1);
        assert_ne!(answer[2] & TRUNCATED, 0);
        assert_eq!((question(&answer), answer.len()), (question(&whole), HEADER + 9));
    }

    #[test]
    fn no_bytes_are_too_strange() {
        let (request, answer) = pair();
        for cut in 0..answer.len() {
            let mut short = answer[..cut].to_vec();
            assert!(!answers(&short, &request));
            assert!(lifetime(&short).is_none() && comparable(&short).is_none());
            age(&mut short, 1);
            answer_to(&mut short, &request);
        }
        let mut looped = answer;
        looped[12] = 0xc0;
        assert_eq!(lifetime(&looped), None);
    }
}
