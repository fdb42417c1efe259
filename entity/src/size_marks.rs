//! How much had ever been written when the log had come so far.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "size_marks")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    /// 0 events, 1 runs; 2 and 3 the same, up to where they were removed.
    pub kind: i64,
    #[sea_orm(primary_key, auto_increment = false)]
    /// Seq or number.
    pub upto: i64,
    pub bytes: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
