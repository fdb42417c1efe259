//! Events as they were accepted.

use entity::events::{Column, Entity, Model};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DbBackend, EntityTrait, FromQueryResult, QueryFilter, QueryOrder,
    QuerySelect, Statement, sea_query::Expr,
};

use super::{
    Error, Store, encode,
    journal::{EventKey, find_key},
};
use crate::domain::{
    Cause, Envelope, Event, EventId, Lineage, Millis, Seq, SubscriptionId, TypePattern,
};

/// Ids in one `IN (…)`: well below what either database takes as parameters.
pub(super) const IDS: usize = 1_000;

/// Events that one look reads where no index leads to those that match.
const WINDOW: u64 = 50_000;

/// See [`Store::events`].
pub struct Events<'a>(pub(super) &'a Store);

/// What an event must have to be listed. Empty takes all.
#[derive(Clone, Debug, Default)]
pub struct EventFilter {
    pub event_type: Option<TypePattern>,
    pub subject: Option<String>,
    pub source: Option<String>,
    /// Accepted at this time or later, and before that.
    pub from: Option<Millis>,
    pub until: Option<Millis>,
    /// Emitted by runs on this event.
    pub cause: Option<EventId>,
}

impl Events<'_> {
    /// Ascending from the first after `after`: at most `limit` events of at most `bytes_max` bytes
    /// of payload together, but always one if there is one.
    pub async fn range(
        &self,
        after: Seq,
        limit: usize,
        bytes_max: usize,
    ) -> Result<Vec<Event>, Error> {
        let limit = limit as u64;
        let after = Column::Seq.gt(encode::int(after.0));
        // Sizes first: a page of the largest payloads would not fit into memory.
        let sizes: Vec<(i64, i64)> = Entity::find()
            .select_only()
            .column(Column::Seq)
            .column_as(Expr::cust("CAST(LENGTH(data) AS BIGINT)"), "size")
            .filter(after.clone())
            .order_by_asc(Column::Seq)
            .limit(limit)
            .into_tuple()
            .all(&self.0.connection)
            .await?;
        let Some(&(first, size)) = sizes.first() else { return Ok(Vec::new()) };
        let (mut upto, mut bytes) = (first, encode::unsigned(size));
        for &(seq, size) in &sizes[1..] {
            bytes += encode::unsigned(size);
            if bytes > bytes_max as u64 {
                break;
            }
            upto = seq;
        }
        let models = Entity::find()
            .filter(after)
            .filter(Column::Seq.lte(upto))
            .order_by_asc(Column::Seq)
            .all(&self.0.connection)
            .await?;
        Ok(models.into_iter().map(Event::from).collect())
    }

    /// Those that are stored, ascending.
    pub async fn at(&self, seqs: &[Seq]) -> Result<Vec<Event>, Error> {
        let mut events = Vec::with_capacity(seqs.len());
        for part in seqs.chunks(IDS) {
            let part = part.iter().map(|seq| encode::int(seq.0));
            let models =
                Entity::find().filter(Column::Seq.is_in(part)).all(&self.0.connection).await?;
            events.extend(models.into_iter().map(Event::from));
        }
        events.sort_unstable_by_key(|event| event.seq);
        events.dedup_by_key(|event| event.seq);
        Ok(events)
    }

    pub async fn find(&self, uid: EventId) -> Result<Option<Event>, Error> {
        let model = Entity::find_by_id(encode::int(uid.seq().0)).one(&self.0.connection).await?;
        // The id only claims its seq.
        Ok(model.filter(|model| model.uid == uid.0).map(Event::from))
    }

    /// Those that are stored, ascending by acceptance.
    pub async fn find_all(&self, uids: &[EventId]) -> Result<Vec<Event>, Error> {
        let seqs: Vec<Seq> = uids.iter().map(|uid| uid.seq()).collect();
        let mut events = self.at(&seqs).await?;
        events.retain(|event| uids.contains(&event.uid));
        Ok(events)
    }

    /// By the CloudEvent's own `source` and `id`.
    pub async fn find_by_id(&self, source: &str, id: &str) -> Result<Option<Event>, Error> {
        for uid in self.takers(&EventKey::key_of(source, id)).await? {
            let event = self.find(uid).await?;
            if let Some(event) = event {
                return Ok(Some(event));
            }
        }
        // An event without an id of its own goes by its uid.
        let Ok(uid) = id.parse::<EventId>() else { return Ok(None) };
        let event = self.find(uid).await?;
        Ok(event.filter(|event| event.envelope.id.is_none() && *event.envelope.source == *source))
    }

    /// Events that were accepted under a key: more than one when the first was forgotten.
    async fn takers(&self, key: &[u8; 16]) -> Result<Vec<EventId>, Error> {
        let backend = self.0.connection.get_database_backend();
        let blocks = match backend {
            DbBackend::Postgres => {
                "SELECT entries FROM key_blocks WHERE position($1 IN entries) > 0"
            }
            _ => "SELECT entries FROM key_blocks WHERE instr(entries, ?1) > 0",
        };
        // The one page of each segment where the key would be.
        let pages = "SELECT p.entries FROM key_segments s JOIN key_pages p ON p.segment = s.id \
             AND p.first_key = (SELECT q.first_key FROM key_pages q \
             WHERE q.segment = s.id AND q.first_key <= $1 ORDER BY q.first_key DESC LIMIT 1)";
        let mut takers = Vec::new();
        for sql in [blocks, pages] {
            let values = [sea_orm::Value::from(key.to_vec())];
            let found = Statement::from_sql_and_values(backend, sql, values);
            for row in self.0.connection.query_all_raw(found).await? {
                let entries: Vec<u8> = row.try_get_by_index(0)?;
                takers.extend(find_key(&entries, key).map(|known| known.uid));
            }
        }
        takers.sort_unstable_by_key(|uid| std::cmp::Reverse(uid.seq()));
        Ok(takers)
    }

    /// As [`Events::page`], with where to go on, if there may be more. What no index serves is looked
    /// for among a bounded number of events: then there may be fewer, or none, and still more.
    pub async fn search(
        &self,
        filter: &EventFilter,
        before: Option<Seq>,
        limit: u64,
    ) -> Result<(Vec<Event>, Option<Seq>), Error> {
        let Some((first, last)) = self.ends().await? else { return Ok((Vec::new(), None)) };
        let upper = before.unwrap_or_else(|| last.next());
        let lower = match (&filter.subject, &filter.source) {
            (None, None) => first,
            _ => Seq(upper.0.saturating_sub(WINDOW)).max(first),
        };
        let events = self.between(filter, before, lower, limit).await?;
        let rest = match events.last() {
            Some(last) if events.len() as u64 == limit => Some(last.seq),
            _ => (lower > first).then_some(lower),
        };
        Ok((events, rest))
    }

    /// Newest first, before `before`, at most `limit`.
    pub async fn page(
        &self,
        filter: &EventFilter,
        before: Option<Seq>,
        limit: u64,
    ) -> Result<Vec<Event>, Error> {
        self.between(filter, before, Seq(0), limit).await
    }

    async fn between(
        &self,
        filter: &EventFilter,
        before: Option<Seq>,
        lower: Seq,
        limit: u64,
    ) -> Result<Vec<Event>, Error> {
        let mut query = Entity::find().order_by_desc(Column::Seq).limit(limit);
        if lower > Seq(0) {
            query = query.filter(Column::Seq.gte(encode::int(lower.0)));
        }
        if let Some(before) = before {
            query = query.filter(Column::Seq.lt(encode::int(before.0)));
        }
        if let Some(pattern) = &filter.event_type {
            if pattern.is_exact() {
                query = query.filter(Column::Type.eq(pattern.as_str()));
            } else {
                let types = self.0.types_like(Some(pattern), "events", "type").await?;
                query = query.filter(Column::Type.is_in(types));
            }
        }
        if let Some(subject) = &filter.subject {
            query = query.filter(Column::Subject.eq(subject));
        }
        if let Some(source) = &filter.source {
            query = query.filter(Column::Source.eq(source));
        }
        // Times are turned into seqs, which are indexed and grow with them.
        if let Some(from) = filter.from {
            query = query.filter(Column::Seq.gte(encode::int(self.at_or_after(from).await?.0)));
        }
        if let Some(until) = filter.until {
            query = query.filter(Column::Seq.lt(encode::int(self.at_or_after(until).await?.0)));
        }
        if let Some(cause) = filter.cause {
            query = query.filter(Column::CauseEvent.eq(cause.0));
        }
        Ok(query.all(&self.0.connection).await?.into_iter().map(Event::from).collect())
    }

    /// Events that runs on this one emitted, oldest first, at most `limit`.
    pub async fn caused_by(&self, event: EventId, limit: u64) -> Result<Vec<Event>, Error> {
        let models = Entity::find()
            .filter(Column::CauseEvent.eq(event.0))
            .order_by_asc(Column::Seq)
            .limit(limit)
            .all(&self.0.connection)
            .await?;
        Ok(models.into_iter().map(Event::from).collect())
    }

    /// The seq of the first stored event accepted at `time` or later; one past the last if none was.
    ///
    /// A binary search by primary key: acceptance times never decrease with the seq.
    pub async fn at_or_after(&self, time: Millis) -> Result<Seq, Error> {
        let (mut low, mut high) = match self.ends().await? {
            Some((first, last)) => (first.0, last.0 + 1),
            None => return Ok(self.0.state().await?.seq.next()),
        };
        while low < high {
            let middle = low + (high - low) / 2;
            // Retention may have left gaps: ask the next event that is there.
            let next = Entity::find()
                .select_only()
                .columns([Column::Seq, Column::AcceptedAt])
                .filter(Column::Seq.gte(encode::int(middle)))
                .order_by_asc(Column::Seq)
                .into_tuple::<(i64, i64)>()
                .one(&self.0.connection)
                .await?;
            match next {
                Some((seq, at)) if at < time.0 => low = encode::unsigned(seq) + 1,
                _ => high = middle,
            }
        }
        Ok(Seq(low))
    }

    /// Seqs of the oldest and the newest stored event.
    pub async fn ends(&self) -> Result<Option<(Seq, Seq)>, Error> {
        #[derive(FromQueryResult)]
        struct Ends {
            first: Option<i64>,
            last: Option<i64>,
        }
        let ends = Entity::find()
            .select_only()
            .column_as(Expr::cust("(SELECT MIN(seq) FROM events)"), "first")
            .column_as(Expr::cust("(SELECT MAX(seq) FROM events)"), "last")
            .limit(1)
            .into_model::<Ends>()
            .one(&self.0.connection)
            .await?;
        Ok(ends.and_then(|ends| {
            Some((Seq(encode::unsigned(ends.first?)), Seq(encode::unsigned(ends.last?))))
        }))
    }

    /// Every event type that is stored, in order.
    pub async fn types(&self) -> Result<Vec<String>, Error> {
        self.0.types_like(None, "events", "type").await
    }
}

impl From<Model> for Event {
    fn from(model: Model) -> Self {
        let cause = model.cause_event.zip(model.cause_subscription);
        Self {
            seq: Seq(encode::unsigned(model.seq)),
            uid: EventId(model.uid),
            accepted_at: Millis(model.accepted_at),
            envelope: Envelope {
                id: model.id.map(Into::into),
                source: model.source.into(),
                event_type: model.r#type.into(),
                subject: model.subject.map(Into::into),
                time: model.time.map(Into::into),
                datacontenttype: model.datacontenttype.map(Into::into),
                dataschema: model.dataschema.map(Into::into),
                extensions: model.extensions.map(Into::into),
                encoding: encode::encoding_from(model.encoding, model.erased_at),
            },
            data: model.data.into(),
            lineage: Lineage {
                cause: cause.map(|(event, subscription)| Cause {
                    event: EventId(event),
                    subscription: SubscriptionId(subscription),
                }),
                hop: encode::small(model.hop),
                spread: encode::unsigned(model.spread),
            },
        }
    }
}
