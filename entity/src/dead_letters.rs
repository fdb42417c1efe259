//! Dead letters: one per delivery, with its whole history of replays.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "dead_letters")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub delivery: Uuid,
    /// `dead`, `replaying`, `replayed` or `discarded`.
    pub status: String,
    pub subscription: Uuid,
    pub subscription_name: String,
    pub script: Uuid,
    pub script_version: i64,
    pub event: Uuid,
    pub seq: i64,
    pub event_type: String,
    pub error_kind: String,
    pub error_message: String,
    pub error_stack: Option<String>,
    /// The same for errors that differ in numbers and quoted values only.
    pub fingerprint: String,
    pub attempts: i64,
    pub first_failed_at: i64,
    pub died_at: i64,
    pub replays: i64,
    /// Payload as it was edited for the last replay, JSON.
    pub data: Option<String>,
    pub discarded_at: Option<i64>,
    /// The bulk operation that discarded it.
    pub discarded_by: Option<Uuid>,
    /// When a bulk replay last passed it over, for it could not be replayed.
    pub skipped_at: Option<i64>,
    pub revision: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
