//! Gathers the fields of an event and of the spans around it and writes one line.

use std::{io::Write as _, sync::Arc};

use certctl_domain::time::Clock;
use tracing::{
    Event, Subscriber,
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{
    Layer,
    fmt::MakeWriter,
    layer::Context,
    registry::{LookupSpan, Scope},
};

use super::{
    LogFormat,
    fields::Fields,
    line::{self, Line},
};

/// Writes events as lines.
pub(super) struct LogLayer<W> {
    format: LogFormat,
    clock: Arc<dyn Clock>,
    writer: W,
}

impl<W> LogLayer<W> {
    pub(super) fn new(format: LogFormat, clock: Arc<dyn Clock>, writer: W) -> Self {
        Self {
            format,
            clock,
            writer,
        }
    }
}

impl<S, W> Layer<S> for LogLayer<W>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'w> MakeWriter<'w> + 'static,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        span.extensions_mut().insert(fields.without_message());
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(fields) = span.extensions_mut().get_mut::<Fields>() {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        for span in context
            .event_scope(event)
            .into_iter()
            .flat_map(Scope::from_root)
        {
            if let Some(outer) = span.extensions().get::<Fields>() {
                fields.extend(outer);
            }
        }
        event.record(&mut fields);
        let line = Line {
            time: self.clock.now(),
            level: *event.metadata().level(),
            target: event.metadata().target(),
            fields: &fields,
        };
        let text = match self.format {
            LogFormat::Json => line::json(&line),
            LogFormat::Text => line::text(&line),
        };
        // One write for the whole line, so that lines of several threads do not mix. When it fails there is nowhere to
        // say so.
        let _ = self
            .writer
            .make_writer_for(event.metadata())
            .write_all(text.as_bytes());
    }
}
