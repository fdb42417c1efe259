//! Accepted events, in the order of their acceptance.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "events")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub seq: i64,
    pub uid: Uuid,
    pub id: Option<String>,
    pub source: String,
    pub r#type: String,
    pub subject: Option<String>,
    pub time: Option<String>,
    pub datacontenttype: Option<String>,
    pub dataschema: Option<String>,
    /// One flat JSON object.
    pub extensions: Option<String>,
    /// 0 JSON, 1 base64, 2 absent.
    pub encoding: i64,
    /// The payload's JSON text, byte for byte as received.
    pub data: Vec<u8>,
    pub accepted_at: i64,
    pub cause_event: Option<Uuid>,
    pub cause_subscription: Option<Uuid>,
    pub hop: i64,
    pub spread: i64,
    /// CRC-32 of uid, source, type and data.
    pub checksum: i64,
    /// When its payload was erased.
    pub erased_at: Option<i64>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
