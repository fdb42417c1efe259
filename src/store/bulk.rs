//! Bulk operations on dead letters: what was asked for, and how far it is.

use entity::bulk_operations::{ActiveModel, Column, Entity, Model};
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    sea_query::{Expr, ExprTrait},
};
use serde::{Deserialize, Serialize};

use super::{Error, LetterFilter, Store, Write, encode, journal::Scheduled, scheduled};
use crate::domain::{BulkId, Millis};

/// See [`Store::bulk`].
pub struct Bulk<'a>(pub(super) &'a Store);

/// A replay, discard or restore of all letters that match.
#[derive(Clone, Debug, PartialEq)]
pub struct BulkOperation {
    pub id: BulkId,
    pub action: BulkAction,
    pub filter: LetterFilter,
    /// Letters per second at most; `None`: as fast as it goes.
    pub rate: Option<u32>,
    /// Letters that matched when it began.
    pub total: u64,
    /// Letters taken so far.
    pub done: u64,
    pub state: BulkState,
    /// Letters that die later are left alone.
    pub created_at: Millis,
    pub finished_at: Option<Millis>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BulkAction {
    Replay {
        /// With the script's version of the last attempt instead of the current one.
        pinned_original: bool,
    },
    Discard,
    /// Undoes discards.
    Restore,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BulkState {
    Running,
    Done,
    Aborted,
}

impl BulkState {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Done => "done",
            Self::Aborted => "aborted",
        }
    }
}

impl Bulk<'_> {
    pub async fn create(&self, operation: &BulkOperation) -> Result<(), Error> {
        let row = ActiveModel {
            id: Set(operation.id.0),
            action: Set(action(operation.action).into()),
            filter: Set(encode::json(&operation.filter)),
            rate: Set(operation.rate.map(i64::from)),
            total: Set(encode::int(operation.total)),
            done: Set(encode::int(operation.done)),
            state: Set(operation.state.as_str().into()),
            created_at: Set(operation.created_at.0),
            finished_at: Set(operation.finished_at.map(|at| at.0)),
        };
        let write = self.0.write().await?;
        Entity::insert(row).exec_without_returning(&*write).await?;
        write.commit().await
    }

    pub async fn get(&self, id: BulkId) -> Result<Option<BulkOperation>, Error> {
        let model = Entity::find_by_id(id.0).one(&self.0.connection).await?;
        model.map(BulkOperation::try_from).transpose()
    }

    /// Newest first, at most `limit`.
    pub async fn recent(&self, limit: u64) -> Result<Vec<BulkOperation>, Error> {
        let query =
            Entity::find().order_by_desc(Column::CreatedAt).order_by_desc(Column::Id).limit(limit);
        query.all(&self.0.connection).await?.into_iter().map(BulkOperation::try_from).collect()
    }

    /// Oldest first.
    pub async fn unfinished(&self) -> Result<Vec<BulkOperation>, Error> {
        let query = Entity::find()
            .filter(Column::State.eq(BulkState::Running.as_str()))
            .order_by_asc(Column::CreatedAt)
            .order_by_asc(Column::Id);
        query.all(&self.0.connection).await?.into_iter().map(BulkOperation::try_from).collect()
    }

    /// Ends an operation that is running; one that has ended stays as it ended. `alert` is written
    /// with it, on its way into the log; false: it had ended before, and nothing was written.
    pub async fn finish(
        &self,
        id: BulkId,
        state: BulkState,
        at: Millis,
        alert: Option<&Scheduled>,
    ) -> Result<bool, Error> {
        let write = self.0.write().await?;
        let ended = Entity::update_many()
            .col_expr(Column::State, Expr::val(state.as_str()))
            .col_expr(Column::FinishedAt, Expr::val(at.0))
            .filter(Column::Id.eq(id.0))
            .filter(Column::State.eq(BulkState::Running.as_str()))
            .exec(&*write)
            .await?
            .rows_affected
            > 0;
        if ended {
            scheduled::add(&write, alert.map_or(&[], std::slice::from_ref)).await?;
        }
        write.commit().await?;
        Ok(ended)
    }
}

impl BulkAction {
    /// `replay`, `discard`, `restore`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Replay { .. } => "replay",
            Self::Discard => "discard",
            Self::Restore => "restore",
        }
    }
}

/// Counts `more` letters as taken, in the transaction that takes them: a crash in between would
/// leave a count that never adds up.
pub(super) async fn count(write: &Write, id: BulkId, more: u64) -> Result<(), Error> {
    Entity::update_many()
        .col_expr(Column::Done, Expr::col(Column::Done).add(encode::int(more)))
        .filter(Column::Id.eq(id.0))
        .exec(&**write)
        .await?;
    Ok(())
}

const fn action(action: BulkAction) -> &'static str {
    match action {
        BulkAction::Replay { pinned_original: false } => "replay",
        BulkAction::Replay { pinned_original: true } => "replay_original",
        BulkAction::Discard => "discard",
        BulkAction::Restore => "restore",
    }
}

impl TryFrom<Model> for BulkOperation {
    type Error = Error;

    fn try_from(model: Model) -> Result<Self, Error> {
        let damaged = || Error::damaged("bulk operation", model.id);
        let actions = [
            BulkAction::Replay { pinned_original: false },
            BulkAction::Replay { pinned_original: true },
            BulkAction::Discard,
            BulkAction::Restore,
        ];
        let states = [BulkState::Running, BulkState::Done, BulkState::Aborted];
        Ok(Self {
            id: BulkId(model.id),
            action: actions
                .into_iter()
                .find(|each| action(*each) == model.action)
                .ok_or_else(damaged)?,
            filter: serde_json::from_str(&model.filter).map_err(|_| damaged())?,
            rate: model.rate.map(encode::small),
            total: encode::unsigned(model.total),
            done: encode::unsigned(model.done),
            state: states
                .into_iter()
                .find(|each| each.as_str() == model.state)
                .ok_or_else(damaged)?,
            created_at: Millis(model.created_at),
            finished_at: model.finished_at.map(Millis),
        })
    }
}
