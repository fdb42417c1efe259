//! From which event on which definition of a subscription holds.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "subscription_definitions")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub subscription: Uuid,
    #[sea_orm(primary_key, auto_increment = false)]
    pub from_seq: i64,
    pub script: Uuid,
    /// JSON.
    pub definition: String,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
