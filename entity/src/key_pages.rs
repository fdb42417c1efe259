//! Pages of sealed keys, in order.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "key_pages")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub segment: i64,
    #[sea_orm(primary_key, auto_increment = false)]
    pub first_key: Vec<u8>,
    pub entries: Vec<u8>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
