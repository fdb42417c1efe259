//! Dead letters: what they are, and how they are grouped. `search` finds them, `record` makes them,
//! `replay` ends them.

use std::collections::HashMap;

use entity::{
    dead_letters::{Column, Entity, Model},
    letter_groups,
};
use sea_orm::{
    ColumnTrait, EntityTrait, FromQueryResult, QueryFilter, QueryOrder, QuerySelect,
    sea_query::Expr,
};
use serde::{Deserialize, Serialize};

use super::{BulkAction, Error, Store, encode};
use crate::domain::{
    BulkId, DeliveryId, ErrorKind, EventId, LetterId, Millis, RunError, ScriptId, Seq,
    SubscriptionId,
};

mod record;
mod replay;
mod search;

pub use search::{LetterCount, LetterPage, Position};

/// Letters that are grouped one by one where the groups that are kept do not tell.
const GROUPED: u64 = 5_000;

pub use self::record::Announcer;

/// See [`Store::letters`].
pub struct Letters<'a>(pub(super) &'a Store);

/// A delivery whose attempts were spent.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadLetter {
    pub id: LetterId,
    pub delivery: DeliveryId,
    pub status: LetterStatus,
    pub subscription: SubscriptionId,
    /// As it was when the letter was written.
    pub subscription_name: String,
    pub script: ScriptId,
    /// Of the last attempt.
    pub script_version: u32,
    pub event: EventId,
    pub seq: Seq,
    pub event_type: String,
    pub error: RunError,
    /// The same for errors that differ in numbers and quoted values only.
    pub fingerprint: String,
    /// Attempts of the last replay, or of the delivery when there was none.
    pub attempts: u32,
    pub first_failed_at: Millis,
    pub died_at: Millis,
    pub replays: u32,
    /// The payload as it was edited for a replay; later replays take it too. `None`: the event's.
    pub data: Option<String>,
    pub discarded_at: Option<Millis>,
    pub revision: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LetterStatus {
    Dead,
    Replaying,
    Replayed,
    Discarded,
}

impl LetterStatus {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dead => "dead",
            Self::Replaying => "replaying",
            Self::Replayed => "replayed",
            Self::Discarded => "discarded",
        }
    }

    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Dead, Self::Replaying, Self::Replayed, Self::Discarded]
            .into_iter()
            .find(|status| status.as_str() == text)
    }
}

/// What a letter must have to be listed, counted or taken by a bulk operation. Empty takes all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LetterFilter {
    pub status: Option<LetterStatus>,
    pub subscription_id: Option<SubscriptionId>,
    pub script_id: Option<ScriptId>,
    /// A type, or a pattern with `*` and `**`.
    pub event_type: Option<String>,
    pub event_id: Option<EventId>,
    pub error_kind: Option<ErrorKind>,
    /// Part of the error's message, in any case.
    pub text: Option<String>,
    pub fingerprint: Option<String>,
    /// The bulk operation that discarded it.
    pub discarded_by: Option<BulkId>,
    /// Died at this time or later, and before that.
    pub from: Option<Millis>,
    pub until: Option<Millis>,
}

/// Letters with the same kind of error.
#[derive(Clone, Debug, PartialEq)]
pub struct LetterGroup {
    pub fingerprint: String,
    pub error_kind: ErrorKind,
    /// The message of one of them, cut after a thousand characters.
    pub message: String,
    pub count: u64,
    /// Deaths since there was none of this kind.
    pub first_died_at: Millis,
    pub last_died_at: Millis,
    /// Scripts that they died of, the most frequent first.
    pub scripts: Vec<ScriptId>,
}

impl Letters<'_> {
    pub async fn find(&self, id: LetterId) -> Result<Option<DeadLetter>, Error> {
        let model = Entity::find_by_id(id.0).one(&self.0.connection).await?;
        model.map(DeadLetter::try_from).transpose()
    }

    /// Letters of each kind of error, the most frequent first, at most `limit` kinds. False: only
    /// the letters that died last were looked at, for the filter asks what is not kept by group.
    pub async fn groups(
        &self,
        filter: &LetterFilter,
        limit: u64,
    ) -> Result<(Vec<LetterGroup>, bool), Error> {
        if filter.is_kept_by_group() {
            return Ok((self.kept_groups(filter, limit).await?, true));
        }
        let page = self.page(filter, None, GROUPED).await?;
        Ok((grouped(page.letters, limit), page.next.is_none()))
    }

    async fn kept_groups(
        &self,
        filter: &LetterFilter,
        limit: u64,
    ) -> Result<Vec<LetterGroup>, Error> {
        use letter_groups::Column;
        #[derive(FromQueryResult)]
        struct Row {
            fingerprint: String,
            error_kind: String,
            message: String,
            count: i64,
            first: i64,
            last: i64,
        }
        let count = || Expr::cust("CAST(SUM(count) AS BIGINT)");
        let rows = self
            .groups_of(filter)
            .await?
            .select_only()
            .column(Column::Fingerprint)
            .column(Column::ErrorKind)
            .column_as(Column::Message.max(), "message")
            .column_as(count(), "count")
            .column_as(Column::FirstDiedAt.min(), "first")
            .column_as(Column::LastDiedAt.max(), "last")
            .group_by(Column::Fingerprint)
            .group_by(Column::ErrorKind)
            .order_by_desc(count())
            .order_by_asc(Column::Fingerprint)
            .limit(limit)
            .into_model::<Row>()
            .all(&self.0.connection)
            .await?;
        let fingerprints = rows.iter().map(|row| row.fingerprint.clone());
        let scripts: Vec<(String, uuid::Uuid)> = self
            .groups_of(filter)
            .await?
            .select_only()
            .columns([Column::Fingerprint, Column::Script])
            .filter(Column::Fingerprint.is_in(fingerprints))
            .group_by(Column::Fingerprint)
            .group_by(Column::Script)
            .order_by_desc(count())
            .order_by_asc(Column::Script)
            .into_tuple()
            .all(&self.0.connection)
            .await?;
        rows.into_iter()
            .map(|row| {
                let kind = ErrorKind::parse(&row.error_kind);
                let its = scripts.iter().filter(|(fingerprint, _)| *fingerprint == row.fingerprint);
                Ok(LetterGroup {
                    scripts: its.map(|(_, script)| ScriptId(*script)).collect(),
                    error_kind: kind
                        .ok_or_else(|| Error::damaged("letter group", &row.fingerprint))?,
                    fingerprint: row.fingerprint,
                    message: row.message,
                    count: encode::unsigned(row.count),
                    first_died_at: Millis(row.first),
                    last_died_at: Millis(row.last),
                })
            })
            .collect()
    }

    /// The letters of these events, by event and subscription.
    pub async fn of_events(
        &self,
        events: &[EventId],
    ) -> Result<Vec<(EventId, SubscriptionId, LetterStatus)>, Error> {
        let models = Entity::find()
            .filter(Column::Seq.is_in(events.iter().map(|event| encode::int(event.seq().0))))
            .filter(Column::Event.is_in(events.iter().map(|event| event.0)))
            .all(&self.0.connection)
            .await?;
        let triple = |model: Model| {
            let status = LetterStatus::parse(&model.status);
            let status = status.ok_or_else(|| Error::damaged("letter", model.id))?;
            Ok((EventId(model.event), SubscriptionId(model.subscription), status))
        };
        models.into_iter().map(triple).collect()
    }
}

/// Groups letters that come with those that died last first.
fn grouped(letters: Vec<DeadLetter>, limit: u64) -> Vec<LetterGroup> {
    let mut groups: HashMap<(String, ErrorKind), (LetterGroup, HashMap<ScriptId, u64>)> =
        HashMap::new();
    for letter in letters {
        let key = (letter.fingerprint.clone(), letter.error.kind);
        let (group, scripts) = groups.entry(key).or_insert_with(|| {
            let group = LetterGroup {
                fingerprint: letter.fingerprint.clone(),
                error_kind: letter.error.kind,
                message: letter.error.message.clone(),
                count: 0,
                first_died_at: letter.died_at,
                last_died_at: letter.died_at,
                scripts: Vec::new(),
            };
            (group, HashMap::new())
        });
        group.count += 1;
        group.first_died_at = group.first_died_at.min(letter.died_at);
        *scripts.entry(letter.script).or_default() += 1;
    }
    let mut groups: Vec<LetterGroup> = groups.into_values().map(with_scripts).collect();
    groups.sort_by(|a, b| (b.count, &a.fingerprint).cmp(&(a.count, &b.fingerprint)));
    groups.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    groups
}

fn with_scripts((mut group, scripts): (LetterGroup, HashMap<ScriptId, u64>)) -> LetterGroup {
    let mut scripts: Vec<(ScriptId, u64)> = scripts.into_iter().collect();
    scripts.sort_by_key(|&(script, count)| (std::cmp::Reverse(count), script));
    group.scripts = scripts.into_iter().map(|(script, _)| script).collect();
    group
}

impl TryFrom<Model> for DeadLetter {
    type Error = Error;

    fn try_from(model: Model) -> Result<Self, Error> {
        let damaged = || Error::damaged("letter", model.id);
        Ok(Self {
            id: LetterId(model.id),
            delivery: DeliveryId(model.delivery),
            status: LetterStatus::parse(&model.status).ok_or_else(damaged)?,
            subscription: SubscriptionId(model.subscription),
            subscription_name: model.subscription_name,
            script: ScriptId(model.script),
            script_version: encode::small(model.script_version),
            event: EventId(model.event),
            seq: Seq(encode::unsigned(model.seq)),
            event_type: model.event_type,
            error: RunError {
                kind: ErrorKind::parse(&model.error_kind).ok_or_else(damaged)?,
                message: model.error_message,
                stack: model.error_stack,
            },
            fingerprint: model.fingerprint,
            attempts: encode::small(model.attempts),
            first_failed_at: Millis(model.first_failed_at),
            died_at: Millis(model.died_at),
            replays: encode::small(model.replays),
            data: model.data,
            discarded_at: model.discarded_at.map(Millis),
            revision: encode::unsigned(model.revision),
        })
    }
}
