//! The journal's own state: one row, which every commit moves.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "journal_state")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: i64,
    /// Identity of the store, drawn when it was created.
    pub store: Uuid,
    pub created_at: i64,
    pub epoch: i64,
    pub batch: i64,
    pub seq: i64,
    pub run: i64,
    pub watermark: i64,
    pub accepted_at: i64,
    /// The last owner stopped in order.
    pub clean: bool,
    pub unclean_stops: i64,
    /// From this seq on every event is stored.
    pub retained: i64,
    /// Bytes of all events that were ever written, and of all runs.
    pub event_bytes: i64,
    pub run_bytes: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
