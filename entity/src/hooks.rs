//! Inbound webhooks: whose signature a delivery must carry, and what event it becomes.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "hooks")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub name: String,
    /// `standard_webhooks`, `github`, `stripe` or `hmac`.
    pub preset: String,
    /// JSON list: names of secrets.
    pub secrets: String,
    /// Carries the signature of `hmac`.
    pub header: String,
    /// Replay window, milliseconds.
    pub tolerance: i64,
    pub event_type: String,
    pub subject: Option<String>,
    pub event_id: Option<String>,
    pub is_active: bool,
    pub created_at: i64,
    pub updated_at: i64,
    pub revision: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
