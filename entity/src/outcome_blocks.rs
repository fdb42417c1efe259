//! All attempts that one commit settled, packed.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "outcome_blocks")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub batch: i64,
    pub at: i64,
    pub count: i64,
    pub bytes: Vec<u8>,
    /// Seq of the last event at that commit.
    pub top_seq: i64,
    pub watermark: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
