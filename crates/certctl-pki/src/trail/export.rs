//! The sealed form of an export, line by line, and checking it with nothing else at hand.
//!
//! ```text
//! {"type":"begin","format":"certctl-audit-sealed","version":1,"from":…,"to":…,"keys":[{"key_id":…,"public_key_pem":…}]}
//! {"type":"head",…head…,"signature":…,"hash":…}        a batch, followed by its rows in order
//! {"type":"row","seq":0,"leaf":…,"event":{…}}          without `event`: withheld; with `"missing":true`: gone
//! {"type":"end","batches":1,"rows":1,"complete":true}  a file without this line was cut
//! ```

use std::io::{BufRead, Read as _};

use serde_json::{Value, json};

use super::{
    Anchor, Break, Content, Hash, Keys, SealedRow, SignedHead, Verifier, event_from_json,
    event_json, hash_from_hex,
};

/// What a line of a sealed export says.
#[derive(Debug)]
pub enum Line<'a> {
    /// The first.
    Begin {
        /// Batches closed from this time on, RFC 3339.
        from: &'a str,
        /// Batches closed up to this time, RFC 3339.
        to: &'a str,
        /// Every key with its id and PEM.
        keys: &'a [(String, String)],
    },
    /// A batch.
    Head(&'a SignedHead),
    /// A row of the batch before it.
    Row(&'a SealedRow),
    /// The last.
    End {
        /// Batches in the file.
        batches: u64,
        /// Rows in the file.
        rows: u64,
        /// Whether the file holds all batches that were asked for.
        complete: bool,
    },
}

const FORMAT: &str = "certctl-audit-sealed";

impl Line<'_> {
    /// The line, without its end.
    #[must_use]
    pub fn to_json(&self) -> Value {
        match self {
            Self::Begin { from, to, keys } => {
                let keys: Vec<Value> = keys
                    .iter()
                    .map(|(id, pem)| json!({"key_id": id, "public_key_pem": pem}))
                    .collect();
                json!({"type": "begin", "format": FORMAT, "version": 1, "from": from, "to": to, "keys": keys})
            }
            Self::Head(head) => {
                let mut value = head.to_json();
                value["type"] = "head".into();
                value
            }
            Self::Row(row) => {
                let mut value =
                    json!({"type": "row", "seq": row.seq, "leaf": hex::encode(row.leaf)});
                match &row.content {
                    Content::Event(event) => value["event"] = event_json(event),
                    Content::Withheld => {}
                    Content::Missing | Content::Unreadable => {
                        value["id"] = row.id.as_str().into();
                        value["missing"] = true.into();
                    }
                }
                value
            }
            Self::End {
                batches,
                rows,
                complete,
            } => json!({"type": "end", "batches": batches, "rows": rows, "complete": complete}),
        }
    }
}

/// What is known beside the file.
#[derive(Debug, Default)]
pub struct OfflineOptions {
    /// Keys to trust; when there are none, those that the file names are taken, which proves only that it fits itself.
    pub keys: Keys,
    /// The hash of a head that must be in the file.
    pub expect_head: Option<Hash>,
}

/// What was found.
#[derive(Debug)]
pub struct OfflineReport {
    /// Rows that were checked, withheld ones included.
    pub rows: u64,
    /// Rows of which the file holds the leaf only.
    pub withheld: u64,
    /// The first batch of the file; 1 when it begins at the very first row.
    pub first_batch: i64,
    /// The last head that was checked.
    pub last: Anchor,
    /// Whether the keys came from outside the file.
    pub keys_trusted: bool,
    /// The first bad row.
    pub broken: Option<Break>,
}

/// Why a file could not be checked to its end.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// It cannot be read.
    #[error("the export cannot be read")]
    Read(#[from] std::io::Error),
    /// A line is not what stands in an export.
    #[error("line {line} of the export {problem}")]
    Line {
        /// Its number, from 1.
        line: u64,
        /// What is wrong, as the end of a sentence.
        problem: &'static str,
    },
    /// It has no last line.
    #[error("the export was cut: its last line is missing")]
    Cut,
    /// The head that was to be in it is not.
    #[error(
        "the expected head is not in the export: its tail was cut, it belongs to another trail, or the export ends before it"
    )]
    NoSuchHead,
}

/// Lines are rows, and no row is anywhere near this long, in bytes.
const MAX_LINE: u64 = 16 << 20;

/// Checks a sealed export to its end or to the first bad row, a batch in memory at a time.
///
/// # Errors
/// [`ExportError`] when the file is none, or not whole.
pub fn verify_export(
    file: impl BufRead,
    options: OfflineOptions,
) -> Result<OfflineReport, ExportError> {
    let mut lines = Lines { file, number: 0 };
    let begin = lines.next()?.ok_or(ExportError::Cut)?;
    if begin["type"] != "begin" || begin["format"] != FORMAT || begin["version"] != 1 {
        return Err(lines.bad("is not the beginning of a sealed export"));
    }
    let keys_trusted = !options.keys.is_empty();
    let mut check = Check {
        keys: options.keys,
        verifier: None,
        batch: None,
        first_batch: 0,
        withheld: 0,
        expect: options.expect_head,
        seen: options.expect_head.is_none(),
    };
    if !keys_trusted {
        for key in begin["keys"].as_array().into_iter().flatten() {
            let pem = key["public_key_pem"].as_str().unwrap_or_default();
            check
                .keys
                .add_pem(pem)
                .map_err(|_| lines.bad("names a key that is none"))?;
        }
    }
    let broken = loop {
        let Some(line) = lines.next()? else {
            return Err(ExportError::Cut);
        };
        let outcome = match line["type"].as_str() {
            Some("head") => {
                let head = SignedHead::from_json(&line)
                    .ok_or_else(|| lines.bad("is not the head of a batch"))?;
                check.close().map(|()| check.open(head))
            }
            Some("row") => {
                let row = row(&line).ok_or_else(|| lines.bad("is not a row"))?;
                check
                    .take(row)
                    .map_err(|()| lines.bad("is a row outside of a batch"))?;
                Ok(())
            }
            Some("end") => match check.close() {
                Ok(()) => break None,
                broken => broken,
            },
            _ => return Err(lines.bad("is of no known type")),
        };
        if let Err(broken) = outcome {
            break Some(broken);
        }
    };
    if broken.is_none() && !check.seen {
        return Err(ExportError::NoSuchHead);
    }
    Ok(OfflineReport {
        rows: check.verifier.as_ref().map_or(0, Verifier::rows),
        withheld: check.withheld,
        first_batch: check.first_batch,
        last: check
            .verifier
            .as_ref()
            .map_or(Anchor::START, Verifier::reached),
        keys_trusted,
        broken,
    })
}

/// The state of a check between two lines.
struct Check {
    keys: Keys,
    verifier: Option<Verifier>,
    batch: Option<(SignedHead, Vec<SealedRow>)>,
    first_batch: i64,
    withheld: u64,
    expect: Option<Hash>,
    seen: bool,
}

impl Check {
    fn open(&mut self, head: SignedHead) {
        self.seen |= self.expect == Some(head.head.hash());
        self.batch = Some((head, Vec::new()));
    }

    fn take(&mut self, row: SealedRow) -> Result<(), ()> {
        let (head, rows) = self.batch.as_mut().ok_or(())?;
        // One more than the head says is enough to see that there are too many.
        if rows.len() as u64 > head.head.row_count.unsigned_abs() {
            return Ok(());
        }
        self.withheld += u64::from(matches!(row.content, Content::Withheld));
        rows.push(row);
        Ok(())
    }

    /// Checks the batch whose rows have all been read.
    fn close(&mut self) -> Result<(), Break> {
        let Some((head, rows)) = self.batch.take() else {
            return Ok(());
        };
        let verifier = self.verifier.get_or_insert_with(|| {
            self.first_batch = head.head.batch;
            // An export may begin in the middle: what its first head says of the one before is then taken as given. The first
            // of all has nothing before it, whatever it says.
            let anchor = if head.head.batch <= 1 {
                Anchor::START
            } else {
                Anchor {
                    batch: head.head.batch - 1,
                    hash: head.head.previous,
                    end_seq: head.head.first_seq,
                }
            };
            Verifier::after(self.keys.clone(), anchor)
        });
        verifier.check(&head, &rows)
    }
}

fn row(line: &Value) -> Option<SealedRow> {
    let event = line.get("event");
    let content = match event {
        Some(event) => event_from_json(event)
            .map_or(Content::Unreadable, |event| Content::Event(Box::new(event))),
        None if line["missing"] == true => Content::Missing,
        None => Content::Withheld,
    };
    let id = event.map_or(&line["id"], |event| &event["id"]);
    Some(SealedRow {
        seq: line["seq"].as_i64()?,
        id: id.as_str().unwrap_or_default().to_owned(),
        leaf: hash_from_hex(line["leaf"].as_str()?)?,
        content,
    })
}

struct Lines<R> {
    file: R,
    number: u64,
}

impl<R: BufRead> Lines<R> {
    fn next(&mut self) -> Result<Option<Value>, ExportError> {
        let mut line = String::new();
        self.number += 1;
        (&mut self.file).take(MAX_LINE).read_line(&mut line)?;
        if line.is_empty() {
            return Ok(None);
        }
        let value = serde_json::from_str(&line).map_err(|_| self.bad("is not JSON"))?;
        Ok(Some(value))
    }

    const fn bad(&self, problem: &'static str) -> ExportError {
        ExportError::Line {
            line: self.number,
            problem,
        }
    }
}
