//! Scripts; their sources are in `script_versions`.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "scripts")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub name: String,
    pub description: Option<String>,
    /// The newest version.
    pub version: i64,
    pub created_at: i64,
    pub updated_at: i64,
    pub revision: i64,
    /// JSON lists: names of secrets it gets, hosts that it may fetch from.
    pub secrets: Option<String>,
    pub fetch_allow: Option<String>,
    /// `script` or `module`.
    pub kind: String,
    /// JSON list: names of the modules that it imports, those of its modules included.
    pub imports: Option<String>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
