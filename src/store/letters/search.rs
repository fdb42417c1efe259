//! Finding letters among a million: each answer reads a bounded number of rows.
//!
//! The groups that triggers keep (`letter_groups`) say which letters there can be, and so which
//! index leads to them. What no index knows, such as a part of the message, is looked for in a
//! window; a page then ends early with a `next`, and a count says that it is not all.

use std::collections::BTreeSet;

use entity::{
    dead_letters::{Column, Entity},
    letter_counts, letter_groups,
};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, EntityTrait, IdenStatic, PaginatorTrait, QueryFilter,
    QueryOrder, QuerySelect, QueryTrait, Select,
    sea_query::{Alias, Expr, ExprTrait, Query, SimpleExpr},
};
use uuid::Uuid;

use super::{BulkAction, DeadLetter, LetterFilter, LetterStatus, Letters};
use crate::{
    domain::{LetterId, Millis, TypePattern},
    store::{Error, encode},
};

/// Letters that one answer looks at where no index leads to those that match.
const WINDOW: u64 = 20_000;
/// Groups that are asked which indexes lead to the letters, and those that a count adds up.
const GROUPS_ASKED: u64 = 2_000;
const GROUPS_COUNTED: u64 = 200_000;
/// Stretches of indexes that one answer puts together.
const PATHS_MAX: usize = 32;

/// Where a letter stands in lists: by its death, then by its id.
pub type Position = (Millis, LetterId);

/// Some letters, those that died last first.
#[derive(Debug, Default)]
pub struct LetterPage {
    pub letters: Vec<DeadLetter>,
    /// More may follow after this one. With a filter that no index serves a page may be short, or
    /// empty, and still have more.
    pub next: Option<Position>,
}

/// How many letters match.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LetterCount {
    pub count: u64,
    /// False: at least so many; finding out would mean to read them all.
    pub exact: bool,
}

/// A stretch of an index, in the order of deaths.
#[derive(Clone, Debug)]
struct Path {
    status: LetterStatus,
    by: By,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum By {
    Status,
    Fingerprint(String),
    Subscription(Uuid),
    EventType(String),
    Discarded,
    /// Few, and not in the order of deaths.
    Event,
}

impl Letters<'_> {
    /// Those that died last first, before the given one, at most `limit`.
    pub async fn page(
        &self,
        filter: &LetterFilter,
        before: Option<Position>,
        limit: u64,
    ) -> Result<LetterPage, Error> {
        let paths = self.paths(filter).await?;
        let window = WINDOW / paths.len().max(1) as u64;
        let mut found = Vec::new();
        // Whoever is below it has not been looked at on every path.
        let mut cut: Option<Position> = None;
        for path in &paths {
            let floor = self.floor(path, filter, before, window).await?;
            let mut query = self.along(path, filter, before, floor).await?;
            query = query.order_by_desc(Column::DiedAt).order_by_desc(Column::Id).limit(limit + 1);
            let models = query.all(&self.0.connection).await?;
            let full = models.len() as u64 > limit;
            for model in models {
                found.push(DeadLetter::try_from(model)?);
            }
            let last = found.last().filter(|_| full).map(|last| (last.died_at, last.id));
            cut = cut.max(last.or(floor));
        }
        found.sort_unstable_by_key(|letter| std::cmp::Reverse((letter.died_at, letter.id)));
        if let Some(cut) = cut {
            found.retain(|letter| (letter.died_at, letter.id) >= cut);
        }
        let more = found.len() as u64 > limit;
        found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        let last = found.last().map(|letter| (letter.died_at, letter.id));
        Ok(LetterPage { letters: found, next: if more { last } else { cut } })
    }

    pub async fn count(&self, filter: &LetterFilter) -> Result<LetterCount, Error> {
        if filter.is_kept_by_subscription() {
            return self.count_by_subscription(filter).await;
        }
        if filter.is_kept_by_group() {
            return self.count_by_group(filter).await;
        }
        let paths = self.paths(filter).await?;
        let window = WINDOW / paths.len().max(1) as u64;
        let mut counted = LetterCount { count: 0, exact: true };
        for path in &paths {
            let floor = self.floor(path, filter, None, window).await?;
            let query = self.along(path, filter, None, floor).await?;
            counted.count += query.count(&self.0.connection).await?;
            counted.exact &= floor.is_none();
        }
        Ok(counted)
    }

    /// Those that a bulk operation begun at `began` may still take, after the given one, at most
    /// `limit`; and from where the next look goes on, `None` once all were looked at.
    pub async fn matching(
        &self,
        action: BulkAction,
        filter: &LetterFilter,
        began: Millis,
        after: Option<Position>,
        limit: u64,
    ) -> Result<(Vec<LetterId>, Option<Position>), Error> {
        let Some(filter) = filter.for_bulk(action) else { return Ok((Vec::new(), None)) };
        let forward = |mut query: Select<Entity>, limit: u64| {
            if let Some(after) = after {
                query = query.filter(beyond(after));
            }
            query.order_by_asc(Column::DiedAt).order_by_asc(Column::Id).limit(limit)
        };
        let path = Path { status: filter.status.unwrap_or(LetterStatus::Dead), by: filter.given() };
        let looked = forward(self.candidates(&path, &filter), WINDOW)
            .select_only()
            .columns([Column::DiedAt, Column::Id]);
        let looked = looked.into_tuple::<(i64, Uuid)>().all(&self.0.connection).await?;
        let Some(&(at, id)) = looked.last() else { return Ok((Vec::new(), None)) };
        let query = self.along(&path, &filter, None, None).await?;
        let query =
            query.filter(not_beyond((Millis(at), LetterId(id)))).filter(open(action, began));
        let found = forward(query, limit).select_only().columns([Column::DiedAt, Column::Id]);
        let found: Vec<(i64, Uuid)> = found.into_tuple().all(&self.0.connection).await?;
        let is_full = found.len() as u64 == limit;
        let last = if is_full { found.last().copied() } else { Some((at, id)) };
        let is_end = !is_full && (looked.len() as u64) < WINDOW;
        let next = last.filter(|_| !is_end).map(|(at, id)| (Millis(at), LetterId(id)));
        Ok((found.into_iter().map(|(_, id)| LetterId(id)).collect(), next))
    }

    /// How many of all a bulk operation that begins now would take.
    pub async fn count_matching(
        &self,
        action: BulkAction,
        filter: &LetterFilter,
    ) -> Result<LetterCount, Error> {
        match filter.for_bulk(action) {
            Some(filter) => self.count(&filter).await,
            None => Ok(LetterCount { count: 0, exact: true }),
        }
    }

    /// Letters with status `dead`, per subscription; those without any are left out.
    pub async fn dead_counts(&self) -> Result<Vec<(crate::domain::SubscriptionId, u64)>, Error> {
        let counts: Vec<(Uuid, i64)> = letter_counts::Entity::find()
            .select_only()
            .columns([letter_counts::Column::Subscription, letter_counts::Column::Count])
            .filter(letter_counts::Column::Status.eq(LetterStatus::Dead.as_str()))
            .into_tuple()
            .all(&self.0.connection)
            .await?;
        let pair = |(id, count)| (crate::domain::SubscriptionId(id), encode::unsigned(count));
        Ok(counts.into_iter().map(pair).collect())
    }

    async fn count_by_subscription(&self, filter: &LetterFilter) -> Result<LetterCount, Error> {
        let mut query = letter_counts::Entity::find();
        if let Some(status) = filter.status {
            query = query.filter(letter_counts::Column::Status.eq(status.as_str()));
        }
        if let Some(subscription) = filter.subscription_id {
            query = query.filter(letter_counts::Column::Subscription.eq(subscription.0));
        }
        let rows = query.all(&self.0.connection).await?;
        let count = rows.into_iter().map(|row| encode::unsigned(row.count)).sum();
        Ok(LetterCount { count, exact: true })
    }

    async fn count_by_group(&self, filter: &LetterFilter) -> Result<LetterCount, Error> {
        let (groups, counted) = (Alias::new("counted"), Alias::new("count"));
        let bounded = self.groups_of(filter).await?.limit(GROUPS_COUNTED).into_query();
        let sums = Query::select()
            .expr(Expr::cust("CAST(COALESCE(SUM(count), 0) AS BIGINT)"))
            .expr(Expr::col(counted).count())
            .from_subquery(bounded, groups)
            .to_owned();
        let row = self.0.connection.query_one(&sums).await?;
        let row = row.ok_or_else(|| Error::Damaged("no answer to a count".into()))?;
        let (count, read): (i64, i64) = (row.try_get_by_index(0)?, row.try_get_by_index(1)?);
        let exact = encode::unsigned(read) < GROUPS_COUNTED;
        Ok(LetterCount { count: encode::unsigned(count), exact })
    }

    /// The kept groups that the filter takes, as far as they know of what it asks.
    pub(super) async fn groups_of(
        &self,
        filter: &LetterFilter,
    ) -> Result<Select<letter_groups::Entity>, Error> {
        use letter_groups::{Column, Entity};
        let statuses = filter.statuses();
        let mut query = Entity::find().filter(Column::Status.is_in(statuses.map(|s| s.as_str())));
        if let Some(subscription) = filter.subscription_id {
            query = query.filter(Column::Subscription.eq(subscription.0));
        }
        if let Some(script) = filter.script_id {
            query = query.filter(Column::Script.eq(script.0));
        }
        if let Some(kind) = filter.error_kind {
            query = query.filter(Column::ErrorKind.eq(kind.as_str()));
        }
        if let Some(fingerprint) = &filter.fingerprint {
            query = query.filter(Column::Fingerprint.eq(fingerprint));
        }
        Ok(match self.types(filter).await? {
            Some(types) => query.filter(Column::EventType.is_in(types)),
            None => query,
        })
    }

    /// The event types that the filter takes; `None`: all.
    async fn types(&self, filter: &LetterFilter) -> Result<Option<Vec<String>>, Error> {
        let Some(text) = &filter.event_type else { return Ok(None) };
        Ok(Some(match TypePattern::parse(text) {
            Ok(pattern) if !pattern.is_exact() => {
                self.0.types_like(Some(&pattern), "dead_letters", "event_type").await?
            }
            // What is no pattern matches nothing, as an exact type would not.
            _ => vec![text.clone()],
        }))
    }

    /// Stretches of indexes that together hold every letter that the filter takes.
    async fn paths(&self, filter: &LetterFilter) -> Result<Vec<Path>, Error> {
        let on = |by: By| move |status| Path { status, by: by.clone() };
        if filter.event_id.is_some() || filter.discarded_by.is_some() {
            return Ok(filter.statuses().map(on(filter.given())).collect());
        }
        use letter_groups::Column;
        let rows: Vec<(String, String, Uuid)> = self
            .groups_of(filter)
            .await?
            .select_only()
            .columns([Column::Status, Column::Fingerprint, Column::Subscription])
            .limit(GROUPS_ASKED)
            .into_tuple()
            .all(&self.0.connection)
            .await?;
        let whole = (rows.len() as u64) < GROUPS_ASKED;
        if !whole || filter.is_kept_by_subscription() && filter.subscription_id.is_none() {
            return Ok(filter.statuses().map(on(filter.given())).collect());
        }
        let mut by_print = BTreeSet::new();
        let mut by_subscription = BTreeSet::new();
        for (status, fingerprint, subscription) in rows {
            by_print.insert((status.clone(), By::Fingerprint(fingerprint)));
            by_subscription.insert((status, By::Subscription(subscription)));
        }
        let fewest = if filter.fingerprint.is_none() && by_subscription.len() <= by_print.len()
            || self.is_small(filter).await?
        {
            by_subscription
        } else {
            by_print
        };
        if fewest.len() > PATHS_MAX {
            return Ok(filter.statuses().map(on(filter.given())).collect());
        }
        let path =
            |(status, by): (String, By)| Some(Path { status: LetterStatus::parse(&status)?, by });
        Ok(fewest.into_iter().filter_map(path).collect())
    }

    /// The subscription that is asked for has so few letters that all may be looked at.
    async fn is_small(&self, filter: &LetterFilter) -> Result<bool, Error> {
        let alone = LetterFilter {
            status: filter.status,
            subscription_id: filter.subscription_id,
            ..LetterFilter::default()
        };
        Ok(filter.subscription_id.is_some()
            && self.count_by_subscription(&alone).await?.count < WINDOW / 4)
    }

    /// The last of the `window` letters along a path that are looked at; `None`: all are.
    async fn floor(
        &self,
        path: &Path,
        filter: &LetterFilter,
        before: Option<Position>,
        window: u64,
    ) -> Result<Option<Position>, Error> {
        if path.by == By::Event {
            return Ok(None);
        }
        let mut query = self.candidates(path, filter);
        if let Some(before) = before {
            query = query.filter(ahead_of(before));
        }
        let last: Option<(i64, Uuid)> = query
            .select_only()
            .columns([Column::DiedAt, Column::Id])
            .order_by_desc(Column::DiedAt)
            .order_by_desc(Column::Id)
            .offset(window.saturating_sub(1))
            .limit(1)
            .into_tuple()
            .one(&self.0.connection)
            .await?;
        Ok(last.map(|(at, id)| (Millis(at), LetterId(id))))
    }

    /// What an index alone finds along the path.
    fn candidates(&self, path: &Path, filter: &LetterFilter) -> Select<Entity> {
        let mut query = Entity::find();
        // Where another index leads, that of the statuses must not look as good.
        query = query.filter(match path.by {
            By::Discarded | By::Event => hidden("status").eq(path.status.as_str()),
            _ => Column::Status.eq(path.status.as_str()),
        });
        query = match &path.by {
            By::Status => query,
            By::Fingerprint(fingerprint) => query.filter(Column::Fingerprint.eq(fingerprint)),
            By::Subscription(subscription) => query.filter(Column::Subscription.eq(*subscription)),
            By::EventType(event_type) => query.filter(Column::EventType.eq(event_type)),
            By::Discarded => {
                query.filter(Column::DiscardedBy.eq(filter.discarded_by.map(|bulk| bulk.0)))
            }
            By::Event => match filter.event_id {
                Some(event) => query
                    .filter(Column::Seq.eq(encode::int(event.seq().0)))
                    .filter(Column::Event.eq(event.0)),
                None => query,
            },
        };
        if let Some(from) = filter.from {
            query = query.filter(Column::DiedAt.gte(from.0));
        }
        if let Some(until) = filter.until {
            query = query.filter(Column::DiedAt.lt(until.0));
        }
        query
    }

    /// All that the filter takes along the path, between two letters.
    async fn along(
        &self,
        path: &Path,
        filter: &LetterFilter,
        before: Option<Position>,
        floor: Option<Position>,
    ) -> Result<Select<Entity>, Error> {
        let mut query = self.candidates(path, filter);
        if let Some(before) = before {
            query = query.filter(ahead_of(before));
        }
        if let Some((at, id)) = floor {
            query = query
                .filter(Column::DiedAt.gte(at.0))
                .filter(Condition::any().add(Column::DiedAt.gt(at.0)).add(Column::Id.gte(id.0)));
        }
        if let Some(subscription) = filter.subscription_id {
            query = query.filter(same(path, Column::Subscription, subscription.0));
        }
        if let Some(fingerprint) = &filter.fingerprint {
            query = query.filter(same(path, Column::Fingerprint, fingerprint));
        }
        if let Some(script) = filter.script_id {
            query = query.filter(Column::Script.eq(script.0));
        }
        if let Some(kind) = filter.error_kind {
            query = query.filter(Column::ErrorKind.eq(kind.as_str()));
        }
        if let Some(types) = self.types(filter).await? {
            query = query.filter(match path.by {
                By::EventType(_) => Column::EventType.is_in(types),
                _ => hidden("event_type").is_in(types),
            });
        }
        if let Some(bulk) = filter.discarded_by {
            query = query.filter(Column::DiscardedBy.eq(bulk.0));
        }
        if let Some(text) = &filter.text {
            query = query.filter(encode::contains("error_message", text));
        }
        Ok(query)
    }
}

impl LetterFilter {
    fn statuses(&self) -> impl Iterator<Item = LetterStatus> + use<> {
        let wanted = self.status;
        [
            LetterStatus::Dead,
            LetterStatus::Replaying,
            LetterStatus::Replayed,
            LetterStatus::Discarded,
        ]
        .into_iter()
        .filter(move |status| wanted.is_none_or(|wanted| wanted == *status))
    }

    /// Nothing is asked but what `letter_groups` knows.
    pub(super) fn is_kept_by_group(&self) -> bool {
        self.event_id.is_none()
            && self.text.is_none()
            && self.discarded_by.is_none()
            && self.from.is_none()
            && self.until.is_none()
    }

    fn is_kept_by_subscription(&self) -> bool {
        self.is_kept_by_group()
            && self.script_id.is_none()
            && self.event_type.is_none()
            && self.error_kind.is_none()
            && self.fingerprint.is_none()
    }

    /// The index that serves what the filter names.
    fn given(&self) -> By {
        let exact = |text: &&String| TypePattern::parse(text).is_ok_and(|p| p.is_exact());
        if self.event_id.is_some() {
            By::Event
        } else if self.discarded_by.is_some() {
            By::Discarded
        } else if let Some(fingerprint) = &self.fingerprint {
            By::Fingerprint(fingerprint.clone())
        } else if let Some(subscription) = self.subscription_id {
            By::Subscription(subscription.0)
        } else if let Some(event_type) = self.event_type.as_ref().filter(exact) {
            By::EventType(event_type.clone())
        } else {
            By::Status
        }
    }

    /// The filter of a bulk operation: letters of one status only. `None`: it takes none.
    fn for_bulk(&self, action: BulkAction) -> Option<Self> {
        let status = match action {
            BulkAction::Replay { .. } | BulkAction::Discard => LetterStatus::Dead,
            BulkAction::Restore => LetterStatus::Discarded,
        };
        let fits = self.status.is_none_or(|wanted| wanted == status);
        fits.then(|| Self { status: Some(status), ..self.clone() })
    }
}

/// What became dead or discarded after the operation began is left to the next one, and so is what
/// it passed over.
fn open(action: BulkAction, began: Millis) -> Condition {
    let since = match action {
        BulkAction::Replay { .. } | BulkAction::Discard => Column::DiedAt,
        BulkAction::Restore => Column::DiscardedAt,
    };
    Condition::all()
        .add(since.lt(began.0))
        .add(Condition::any().add(Column::SkippedAt.is_null()).add(Column::SkippedAt.lt(began.0)))
}

fn ahead_of((at, id): Position) -> Condition {
    Condition::all()
        .add(Column::DiedAt.lte(at.0))
        .add(Condition::any().add(Column::DiedAt.lt(at.0)).add(Column::Id.lt(id.0)))
}

fn beyond((at, id): Position) -> Condition {
    Condition::all()
        .add(Column::DiedAt.gte(at.0))
        .add(Condition::any().add(Column::DiedAt.gt(at.0)).add(Column::Id.gt(id.0)))
}

fn not_beyond((at, id): Position) -> Condition {
    Condition::all()
        .add(Column::DiedAt.lte(at.0))
        .add(Condition::any().add(Column::DiedAt.lt(at.0)).add(Column::Id.lte(id.0)))
}

/// A column whose index SQLite is not to use, for another one leads to what is looked for.
fn hidden(column: &str) -> SimpleExpr {
    Expr::cust(format!("CASE WHEN TRUE THEN {column} END"))
}

/// "The column has the value", without offering its index where the path is another one.
fn same(path: &Path, column: Column, value: impl Into<sea_orm::Value>) -> SimpleExpr {
    match (&path.by, column) {
        (By::Subscription(_), Column::Subscription) | (By::Fingerprint(_), Column::Fingerprint) => {
            Expr::col(column).eq(value.into())
        }
        _ => hidden(column.as_str()).eq(value.into()),
    }
}
