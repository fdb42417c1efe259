//! Delayed emits that wait for their time.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "scheduled")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub due_at: i64,
    pub created_at: i64,
    /// The CloudEvent's own `id`.
    pub event_id: Option<String>,
    pub source: String,
    pub r#type: String,
    pub subject: Option<String>,
    pub time: Option<String>,
    pub datacontenttype: Option<String>,
    pub dataschema: Option<String>,
    pub extensions: Option<String>,
    pub encoding: i64,
    pub data: Vec<u8>,
    pub cause_event: Option<Uuid>,
    pub cause_subscription: Option<Uuid>,
    pub hop: i64,
    pub spread: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
