//! Replays and discards of many dead letters.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "bulk_operations")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// `replay`, `replay_original`, `discard` or `restore`.
    pub action: String,
    /// JSON.
    pub filter: String,
    /// Letters per second; NULL for as fast as it goes.
    pub rate: Option<i64>,
    pub total: i64,
    pub done: i64,
    /// `running`, `done` or `aborted`.
    pub state: String,
    /// Letters that died later are left alone.
    pub created_at: i64,
    pub finished_at: Option<i64>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
