//! Which blocks hold late outcomes of a subscription, and of which events.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "outcome_late")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub subscription: Uuid,
    #[sea_orm(primary_key, auto_increment = false)]
    pub max_seq: i64,
    #[sea_orm(primary_key, auto_increment = false)]
    pub batch: i64,
    pub min_seq: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
