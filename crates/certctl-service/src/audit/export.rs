//! Exports, read page by page while they are sent.

use std::{collections::VecDeque, time::Duration};

use certctl_domain::{
    access::{Actor, Permission},
    audit::{AuditEvent, EventCategory},
    id::AuditEventId,
    time::Timestamp,
    validation::InvalidField,
};
use certctl_pki::trail::{Content, Line};
use certctl_repository::{
    audit_events::{self, AuditFilter},
    audit_seals::{self, AuditBatch},
    transaction,
};
use serde_json::json;

use super::{
    seal::{MAX_BATCH, signed_head},
    verify::row,
};
use crate::{
    Error, Services,
    services::{authorise, event, record},
};

/// Rows read at a time.
const PAGE: i64 = 1000;
/// Heads read at a time.
const HEADS: i64 = 256;
/// The longest time an export may span (api §23).
const MAX_SPAN: Duration = Duration::from_secs(90 * 86_400);
/// The most rows of an export (api §23).
const MAX_ROWS: u32 = 100_000;

/// What to export.
#[derive(Debug, Clone)]
pub struct ExportRange {
    /// Not before.
    pub from: Timestamp,
    /// Not after.
    pub to: Timestamp,
    /// Only this part of the program.
    pub category: Option<EventCategory>,
    /// Rows at the most, 1 to 100,000.
    pub limit: u32,
}

impl ExportRange {
    fn check(&self) -> Result<(), Error> {
        if self.to < self.from {
            return Err(InvalidField::new("to", "is before from").into());
        }
        if self.to.since(self.from) > MAX_SPAN {
            return Err(InvalidField::new("to", "is more than 90 days after from").into());
        }
        if !(1..=MAX_ROWS).contains(&self.limit) {
            return Err(InvalidField::new("limit", "is not between 1 and 100000").into());
        }
        Ok(())
    }
}

/// Events, newest first, a page at a time.
pub struct AuditExport {
    services: Services,
    filter: AuditFilter,
    after: Option<(Timestamp, AuditEventId)>,
    left: u32,
}

impl AuditExport {
    /// The next page; nothing after the last.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn next(&mut self) -> Result<Option<Vec<AuditEvent>>, Error> {
        let limit = PAGE.min(self.left.into());
        if limit == 0 {
            return Ok(None);
        }
        let mut conn = self.services.read().await?;
        let after = self.after.as_ref().map(|(time, id)| (*time, id));
        let page = audit_events::older(&mut conn, &self.filter, after, limit).await?;
        let got = i64::try_from(page.len()).unwrap_or(i64::MAX);
        // A page that is not full is the last one.
        self.left = if got < limit {
            0
        } else {
            self.left - u32::try_from(got).unwrap_or(self.left)
        };
        let Some(last) = page.last() else {
            return Ok(None);
        };
        self.after = Some((last.timestamp, last.id.clone()));
        Ok(Some(page))
    }
}

/// Whole batches with their heads, oldest first, as lines.
pub struct SealedExport {
    services: Services,
    range: ExportRange,
    at: At,
    heads: VecDeque<AuditBatch>,
    reached: i64,
    batches: u64,
    rows: u64,
}

/// Where a sealed export is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Begin,
    Batches,
    Over,
}

impl SealedExport {
    /// The next lines; nothing after the last. A batch at a time is in memory.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn next(&mut self) -> Result<Option<String>, Error> {
        match self.at {
            At::Begin => self.begin().await.map(Some),
            At::Over => Ok(None),
            At::Batches => {
                let is_full = self.rows >= self.range.limit.into();
                match self.next_batch().await? {
                    Some(batch) if !is_full => self.lines_of(&batch).await.map(Some),
                    more => {
                        self.at = At::Over;
                        let (batches, rows) = (self.batches, self.rows);
                        let complete = more.is_none();
                        Ok(Some(line(&Line::End {
                            batches,
                            rows,
                            complete,
                        })))
                    }
                }
            }
        }
    }

    async fn begin(&mut self) -> Result<String, Error> {
        self.at = At::Batches;
        let mut conn = self.services.read().await?;
        let keys: Vec<(String, String)> = certctl_repository::audit_keys::list(&mut conn)
            .await?
            .into_iter()
            .map(super::TrailKeyView::from)
            .map(|key| (key.key_id, key.public_key_pem))
            .collect();
        let first = audit_seals::first_since(&mut conn, self.range.from).await?;
        // Without any, the walk begins after the last.
        self.reached = first.map_or(i64::MAX, |first| first - 1);
        let (from, to) = (self.range.from.to_string(), self.range.to.to_string());
        Ok(line(&Line::Begin {
            from: &from,
            to: &to,
            keys: &keys,
        }))
    }

    async fn next_batch(&mut self) -> Result<Option<AuditBatch>, Error> {
        if self.heads.is_empty() {
            let mut conn = self.services.read().await?;
            self.heads = audit_seals::after(&mut conn, self.reached, HEADS)
                .await?
                .into();
        }
        let next = self
            .heads
            .pop_front()
            .filter(|batch| batch.sealed_at <= self.range.to);
        if let Some(batch) = &next {
            self.reached = batch.batch;
        }
        Ok(next)
    }

    async fn lines_of(&mut self, batch: &AuditBatch) -> Result<String, Error> {
        let head = signed_head(batch)
            .filter(|head| head.head.row_count <= MAX_BATCH)
            .ok_or_else(|| Error::internal("a head of the audit trail cannot be read"))?;
        let mut conn = self.services.read().await?;
        let rows = audit_seals::rows(&mut conn, head.head.first_seq, head.head.end_seq()).await?;
        let mut lines = line(&Line::Head(&head));
        for found in rows {
            let mut row = row(found);
            if let (Content::Event(event), Some(category)) = (&row.content, self.range.category)
                && event.category != category
            {
                row.content = Content::Withheld;
            }
            lines.push_str(&line(&Line::Row(&row)));
            self.rows += 1;
        }
        self.batches += 1;
        Ok(lines)
    }
}

fn line(line: &Line<'_>) -> String {
    let mut text = line.to_json().to_string();
    text.push('\n');
    text
}

impl Services {
    /// Begins an export of events by when they happened, newest first; it is in the audit trail itself.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `audit.export`, [`Error::Invalid`] for a range that is none or too long.
    pub async fn export_audit(
        &self,
        actor: &Actor,
        range: ExportRange,
    ) -> Result<AuditExport, Error> {
        self.note_export(actor, &range, "events").await?;
        Ok(AuditExport {
            services: self.clone(),
            filter: AuditFilter {
                category: range.category,
                since: Some(range.from),
                until: Some(range.to),
            },
            after: None,
            left: range.limit,
        })
    }

    /// Begins an export of whole batches by when they were sealed, oldest first, with all that checking them takes. Rows of
    /// another category than the one asked for are there by their hashes only.
    ///
    /// # Errors
    /// As [`Services::export_audit`].
    pub async fn export_sealed_audit(
        &self,
        actor: &Actor,
        range: ExportRange,
    ) -> Result<SealedExport, Error> {
        self.note_export(actor, &range, "sealed").await?;
        Ok(SealedExport {
            services: self.clone(),
            range,
            at: At::Begin,
            heads: VecDeque::new(),
            reached: 0,
            batches: 0,
            rows: 0,
        })
    }

    async fn note_export(
        &self,
        actor: &Actor,
        range: &ExportRange,
        format: &str,
    ) -> Result<(), Error> {
        authorise(actor, Permission::AuditExport)?;
        range.check()?;
        let details = json!({
            "from": range.from.to_string(),
            "to": range.to.to_string(),
            "category": range.category.map(EventCategory::as_str),
            "limit": range.limit,
            "format": format,
        });
        let resource = ("audit", "export");
        let category = EventCategory::CertLifecycle;
        let noted = event(
            actor,
            category,
            "audit.export",
            resource,
            details,
            self.now(),
        );
        transaction!(self.db, "note audit export", conn => {
            record(conn, noted.clone()).await?;
            Ok::<_, Error>(())
        })
    }
}
