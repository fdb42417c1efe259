//! Subscriptions as they are now.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "subscriptions")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub name: String,
    pub script: Uuid,
    pub script_version: Option<i64>,
    pub event_type: String,
    pub filter: Option<String>,
    pub is_active: bool,
    /// JSON, as are `limits`.
    pub retry_policy: String,
    pub concurrency: i64,
    pub ordering: String,
    pub ordering_key: Option<String>,
    pub on_dead: String,
    pub limits: String,
    /// First event that meets this definition.
    pub from_seq: i64,
    pub paused: bool,
    pub suspended: Option<String>,
    /// Behind: reads stored events after here.
    pub cursor: Option<i64>,
    pub created_at: i64,
    pub updated_at: i64,
    pub revision: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
