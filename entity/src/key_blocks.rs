//! Keys of accepted events, one row a commit, until they are sealed.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "key_blocks")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub batch: i64,
    pub entries: Vec<u8>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
