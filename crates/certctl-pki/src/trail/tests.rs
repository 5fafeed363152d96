//! A trail of a few batches, and what is done to it.

use certctl_domain::{
    access::ActorType,
    audit::{AuditEvent, EventCategory},
    id::AuditEventId,
    time::Timestamp,
};
use serde_json::json;

use super::*;
use crate::pem;

fn event(number: i64) -> AuditEvent {
    AuditEvent {
        id: AuditEventId::from_stored(format!("audit-{number}")),
        actor: "ann".into(),
        actor_type: ActorType::ApiKey,
        action: "certificate_created".into(),
        resource_type: "certificate".into(),
        resource_id: "mc-ü".into(),
        details: json!({"number": number, "share": 0.1}),
        timestamp: Timestamp::from_micros(1_780_000_000_000_000 + number),
        category: EventCategory::CertLifecycle,
    }
}

type Batch = (SignedHead, Vec<SealedRow>);

/// Seals batches of these sizes.
fn sealed(key: &TrailKey, sizes: &[i64]) -> Vec<Batch> {
    let mut at = Anchor::START;
    let mut batches = Vec::new();
    for size in sizes {
        let rows: Vec<SealedRow> = (at.end_seq..at.end_seq + size)
            .map(|seq| {
                let event = event(seq);
                SealedRow {
                    seq,
                    id: event.id.to_string(),
                    leaf: leaf_of(&event),
                    content: Content::Event(Box::new(event)),
                }
            })
            .collect();
        let leaves: Vec<Hash> = rows.iter().map(|row| row.leaf).collect();
        let head = Head {
            batch: at.batch + 1,
            first_seq: at.end_seq,
            row_count: *size,
            root: merkle::root(&leaves),
            previous: at.hash,
            sealed_at: Timestamp::from_seconds(1_780_000_100),
            key_id: key.id().to_owned(),
        };
        at = Anchor::of(&head);
        batches.push((key.sign_head(head).unwrap(), rows));
    }
    batches
}

fn keys(key: &TrailKey) -> Keys {
    let mut keys = Keys::default();
    keys.add(key.public_key().clone());
    keys
}

fn check(key: &TrailKey, batches: &[Batch]) -> Result<(u64, Anchor), Break> {
    let mut verifier = Verifier::after(keys(key), Anchor::START);
    for (head, rows) in batches {
        verifier.check(head, rows)?;
    }
    Ok((verifier.rows(), verifier.reached()))
}

/// The lines of an export of these batches.
fn export(key: &TrailKey, batches: &[Batch]) -> String {
    let pem = pem::encode("PUBLIC KEY", key.public_key().spki_der());
    let named = [(key.id().to_owned(), pem)];
    let mut lines = vec![
        Line::Begin {
            from: "a",
            to: "b",
            keys: &named,
        }
        .to_json(),
    ];
    for (head, rows) in batches {
        lines.push(Line::Head(head).to_json());
        lines.extend(rows.iter().map(|row| Line::Row(row).to_json()));
    }
    lines.push(
        Line::End {
            batches: 0,
            rows: 0,
            complete: true,
        }
        .to_json(),
    );
    lines.iter().map(|line| format!("{line}\n")).collect()
}

fn edit(row: &mut SealedRow) {
    if let Content::Event(event) = &mut row.content {
        event.actor = "mallory".into();
    }
}

#[test]
fn what_was_not_touched_is_intact() {
    let key = TrailKey::generate().unwrap();
    let batches = sealed(&key, &[3, 1, 5]);
    let (rows, reached) = check(&key, &batches).unwrap();
    assert_eq!((rows, reached.batch, reached.end_seq), (9, 3, 9));
    let report =
        verify_export(export(&key, &batches).as_bytes(), OfflineOptions::default()).unwrap();
    assert_eq!(
        (report.rows, report.broken, report.last),
        (9, None, reached)
    );
    assert!(!report.keys_trusted);
    let restored = TrailKey::from_pem(key.to_pem().expose()).unwrap();
    assert_eq!(restored.id(), key.id());
}

#[test]
fn the_first_bad_row_is_named_whatever_was_done() {
    let key = TrailKey::generate().unwrap();
    let whole = sealed(&key, &[3, 4, 5]);
    type Attack = fn(&mut Vec<Batch>);
    let attacks: [(&str, Attack, &str, i64, Problem); 12] = [
        (
            "edit",
            |b| edit(&mut b[1].1[2]),
            "audit-5",
            5,
            Problem::Edited,
        ),
        (
            "edit two",
            |b| {
                edit(&mut b[2].1[0]);
                edit(&mut b[0].1[1]);
            },
            "audit-1",
            1,
            Problem::Edited,
        ),
        (
            "edit with its leaf",
            |b| {
                edit(&mut b[1].1[2]);
                if let Content::Event(event) = &b[1].1[2].content {
                    b[1].1[2].leaf = leaf_of(event);
                }
            },
            "audit-3",
            3,
            Problem::Root,
        ),
        (
            "delete",
            |b| b[1].1[1].content = Content::Missing,
            "audit-4",
            4,
            Problem::Deleted,
        ),
        (
            "delete with its position",
            |b| {
                b[1].1.remove(1);
            },
            "position-4",
            4,
            Problem::Deleted,
        ),
        (
            "delete the last of a batch",
            |b| {
                b[1].1.pop();
            },
            "position-6",
            6,
            Problem::Deleted,
        ),
        (
            "insert",
            |b| {
                let row = SealedRow {
                    seq: 7,
                    ..b[0].1[0].clone()
                };
                b[1].1.push(row);
            },
            "audit-0",
            7,
            Problem::Inserted,
        ),
        (
            "swap the rows",
            |b| {
                let (one, two) = (b[1].1[0].clone(), b[1].1[2].clone());
                (b[1].1[0].id, b[1].1[0].content) = (two.id, two.content);
                (b[1].1[2].id, b[1].1[2].content) = (one.id, one.content);
            },
            "audit-5",
            3,
            Problem::Reordered,
        ),
        (
            "swap the positions",
            |b| {
                let rows = &mut b[1].1;
                rows.swap(1, 2);
                (rows[1].seq, rows[2].seq) = (4, 5);
            },
            "audit-5",
            4,
            Problem::Reordered,
        ),
        (
            "remove a batch",
            |b| {
                b.remove(1);
            },
            "audit-7",
            3,
            Problem::BatchMissing,
        ),
        (
            "head",
            |b| b[1].0.head.sealed_at = Timestamp::from_seconds(1),
            "audit-3",
            3,
            Problem::Signature,
        ),
        (
            "head signed by another",
            |b| {
                let other = TrailKey::generate().unwrap();
                let head = Head {
                    key_id: other.id().to_owned(),
                    ..b[1].0.head.clone()
                };
                b[1].0 = other.sign_head(head).unwrap();
            },
            "audit-3",
            3,
            Problem::Signature,
        ),
    ];
    for (what, attack, id, position, problem) in attacks {
        let mut batches = whole.clone();
        attack(&mut batches);
        let expected = Break {
            id: id.into(),
            position,
            problem,
        };
        assert_eq!(check(&key, &batches).unwrap_err(), expected, "{what}");
        let options = OfflineOptions {
            keys: keys(&key),
            expect_head: None,
        };
        let report = verify_export(export(&key, &batches).as_bytes(), options).unwrap();
        assert_eq!(report.broken, Some(expected), "{what}, offline");
    }
}

#[test]
fn a_batch_that_was_sealed_anew_does_not_continue_the_chain() {
    let key = TrailKey::generate().unwrap();
    let mut batches = sealed(&key, &[3, 4]);
    let (head, rows) = &mut batches[0];
    edit(&mut rows[0]);
    if let Content::Event(event) = &rows[0].content {
        rows[0].leaf = leaf_of(event);
    }
    let leaves: Vec<Hash> = rows.iter().map(|row| row.leaf).collect();
    *head = key
        .sign_head(Head {
            root: merkle::root(&leaves),
            ..head.head.clone()
        })
        .unwrap();
    assert_eq!(
        check(&key, &batches).unwrap_err().problem,
        Problem::Unchained
    );
}

#[test]
fn a_cut_tail_is_found_by_a_head_that_is_known() {
    let key = TrailKey::generate().unwrap();
    let mut batches = sealed(&key, &[3, 4, 5]);
    let known = Anchor::of(&batches[2].0.head);
    batches.pop();
    let mut verifier = Verifier::after(keys(&key), Anchor::START);
    for (head, rows) in &batches {
        verifier.check(head, rows).unwrap();
    }
    let cut = Break {
        id: "position-7".into(),
        position: 7,
        problem: Problem::Truncated,
    };
    assert_eq!(verifier.must_reach(known).unwrap_err(), cut);
    assert_eq!(verifier.must_reach(verifier.reached()), Ok(()));
    let other = Anchor {
        hash: GENESIS,
        ..verifier.reached()
    };
    assert_eq!(
        verifier.must_reach(other).unwrap_err().problem,
        Problem::OtherHistory
    );

    let options = || OfflineOptions {
        keys: keys(&key),
        expect_head: Some(known.hash),
    };
    let refused = verify_export(export(&key, &batches).as_bytes(), options()).unwrap_err();
    assert!(matches!(refused, ExportError::NoSuchHead), "{refused:?}");
    let whole = sealed(&key, &[3, 4, 5]);
    assert!(
        verify_export(export(&key, &whole).as_bytes(), options())
            .unwrap()
            .broken
            .is_none()
    );
}

#[test]
fn an_export_may_begin_in_the_middle_and_withhold_rows() {
    let key = TrailKey::generate().unwrap();
    let mut batches = sealed(&key, &[3, 4, 5]);
    batches.remove(0);
    batches[0].1[1].content = Content::Withheld;
    let report = verify_export(
        export(&key, &batches).as_bytes(),
        OfflineOptions {
            keys: keys(&key),
            expect_head: None,
        },
    )
    .unwrap();
    assert_eq!(
        (
            report.rows,
            report.withheld,
            report.first_batch,
            report.broken
        ),
        (9, 1, 2, None)
    );
    assert!(report.keys_trusted);
}

#[test]
fn a_file_that_is_no_whole_export_is_refused_by_line() {
    let key = TrailKey::generate().unwrap();
    let whole = export(&key, &sealed(&key, &[2]));
    let lines: Vec<&str> = whole.lines().collect();
    let said = |text: &str| {
        verify_export(text.as_bytes(), OfflineOptions::default())
            .unwrap_err()
            .to_string()
    };
    assert!(said(&lines[..4].join("\n")).contains("was cut"));
    assert!(said("").contains("was cut"));
    assert!(said("{}\n").contains("line 1 of the export is not the beginning"));
    assert!(said(&format!("{}\nx\n", lines[0])).contains("line 2 of the export is not JSON"));
    assert!(
        said(&format!("{}\n{}\n", lines[0], lines[2]))
            .contains("line 2 of the export is a row outside")
    );
    assert!(
        said(&format!("{}\n{{\"type\":\"row\"}}\n", lines[0]))
            .contains("line 2 of the export is not a row")
    );
}
