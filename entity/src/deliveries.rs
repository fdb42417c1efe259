//! Deliveries that wait: for a retry, a replay, or to become a dead letter.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "deliveries")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub event: Uuid,
    pub seq: i64,
    pub subscription: Uuid,
    /// `pending`, `retrying`, `dying` or `suspect`.
    pub status: String,
    pub attempts: i64,
    pub next_at: i64,
    pub error_kind: Option<String>,
    pub error_message: Option<String>,
    pub error_stack: Option<String>,
    pub first_failed_at: Option<i64>,
    pub script_version: i64,
    pub letter: Option<Uuid>,
    pub replay: i64,
    /// Edited payload of a replay, JSON.
    pub data: Option<String>,
    pub pinned_version: Option<i64>,
    pub crashes_alone: i64,
    pub bulk: Option<Uuid>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
