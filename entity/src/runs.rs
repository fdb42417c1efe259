//! Runs that were kept, in the order of their end.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "runs")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub number: i64,
    pub id: Uuid,
    pub event: Uuid,
    pub seq: i64,
    pub subscription: Uuid,
    pub script: Uuid,
    pub script_version: i64,
    pub attempt: i64,
    pub replay: i64,
    pub failed: bool,
    pub error_kind: Option<String>,
    pub error_message: Option<String>,
    pub error_stack: Option<String>,
    /// JSON text of what the handler returned.
    pub result: Option<String>,
    /// JSON list of log lines; NULL when there are none, as with `warnings`.
    pub logs: Option<String>,
    pub warnings: Option<String>,
    pub started_at: i64,
    pub duration_us: i64,
    pub cpu_us: i64,
    pub queued_us: i64,
    /// Uids of the events it emitted, 16 bytes each; NULL when there are none.
    pub emitted: Option<Vec<u8>>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
