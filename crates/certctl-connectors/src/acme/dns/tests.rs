use hickory_proto::{
    op::{Message, OpCode, Query},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{A, CNAME, TXT},
    },
};
use proptest::prelude::*;

use super::{MAX_ALIASES, Received, answers, name, question};

fn record(owner: &str, data: RData) -> Record {
    Record::from_rdata(Name::from_ascii(owner).unwrap(), 60, data)
}

fn alias(owner: &str, target: &str) -> Record {
    record(
        owner,
        RData::CNAME(CNAME(Name::from_ascii(target).unwrap())),
    )
}

fn answered(records: Vec<Record>) -> Message {
    let mut message = Message::response(7, OpCode::Query);
    message.add_query(Query::query(name("a.example").unwrap(), RecordType::A));
    message.add_answers(records);
    message
}

fn found(records: Vec<Record>) -> usize {
    answers(
        &answered(records),
        &name("a.example").unwrap(),
        RecordType::A,
    )
    .len()
}

#[test]
fn only_what_the_aliases_lead_to_is_an_answer() {
    let one = || RData::A(A::new(192, 0, 2, 1));
    assert_eq!(found(vec![]), 0);
    assert_eq!(found(vec![record("a.example.", one())]), 1);
    assert_eq!(found(vec![record("A.Example.", one())]), 1);
    assert_eq!(found(vec![record("b.example.", one())]), 0);
    assert_eq!(
        found(vec![
            record("c.example.", one()),
            alias("a.example.", "b.example."),
            alias("b.example.", "c.example."),
            record("d.example.", one()),
        ]),
        1
    );
    let text = RData::TXT(TXT::new(vec!["x".to_owned()]));
    assert_eq!(found(vec![record("a.example.", text)]), 0);
}

#[test]
fn aliases_that_lead_in_a_circle_or_too_far_are_given_up() {
    assert_eq!(
        found(vec![
            alias("a.example.", "b.example."),
            alias("b.example.", "a.example."),
        ]),
        0
    );
    let chain = |length: usize| {
        let label = |at: usize| match at {
            0 => "a.example.".to_owned(),
            at => format!("n{at}.example."),
        };
        let mut records: Vec<Record> = (0..length)
            .map(|at| alias(&label(at), &label(at + 1)))
            .collect();
        records.push(record(&label(length), RData::A(A::new(192, 0, 2, 1))));
        records
    };
    assert_eq!(found(chain(MAX_ALIASES)), 1);
    assert_eq!(found(chain(MAX_ALIASES + 1)), 0);
}

#[test]
fn names_are_plain() {
    for good in [
        "example.com",
        "_acme-challenge.xn--bcher-kva.example",
        "localhost",
    ] {
        assert_eq!(name(good).unwrap().to_ascii(), format!("{good}."));
    }
    let (label, long) = ("a".repeat(64), ["a"; 128].join("."));
    for bad in [
        "",
        ".",
        "a..b",
        "a b",
        "a\\046b",
        "b\u{fc}cher",
        "*.example",
        &label,
        &long,
    ] {
        assert!(name(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn only_the_answer_to_the_question_is_heard() {
    let asked = Query::query(name("a.example").unwrap(), RecordType::A);
    let bytes = answered(Vec::new()).to_vec().unwrap();
    assert!(matches!(
        Received::read(&bytes, 7, &asked),
        Some(Received::Whole(_))
    ));
    assert!(Received::read(&bytes, 8, &asked).is_none(), "another id");
    let other = Query::query(name("b.example").unwrap(), RecordType::A);
    assert!(Received::read(&bytes, 7, &other).is_none(), "another name");
    let other = Query::query(name("a.example").unwrap(), RecordType::AAAA);
    assert!(Received::read(&bytes, 7, &other).is_none(), "another type");
    let (id, question) = question(&asked).unwrap();
    assert!(
        Received::read(&question, id, &asked).is_none(),
        "the question itself"
    );
    let mut cut = bytes.clone();
    cut[2] |= 0x02;
    cut.truncate(13);
    assert!(matches!(
        Received::read(&cut, 7, &asked),
        Some(Received::Cut)
    ));
}

#[test]
fn a_question_asks_for_recursion_and_says_how_much_fits() {
    let asked = Query::query(name("a.example").unwrap(), RecordType::TXT);
    let (id, bytes) = question(&asked).unwrap();
    let message = Message::from_vec(&bytes).unwrap();
    assert_eq!(message.metadata.id, id);
    assert!(message.metadata.recursion_desired);
    assert_eq!(message.queries, [asked]);
    assert_eq!(message.edns.unwrap().max_payload(), 1232);
}

proptest! {
    #[test]
    fn no_datagram_breaks_the_reader(bytes: Vec<u8>) {
        let asked = Query::query(name("a.example").unwrap(), RecordType::A);
        let id = bytes.get(..2).map_or(0, |id| u16::from_be_bytes([id[0], id[1]]));
        let mut bytes = bytes;
        if let Some(flags) = bytes.get_mut(2) {
            *flags = (*flags | 0x80) & !0x02;
        }
        if let Some(Received::Whole(message)) = Received::read(&bytes, id, &asked) {
            prop_assert!(message.queries == [asked]);
        }
    }
}
