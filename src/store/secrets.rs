//! Sealed secrets. What is in them, this does not know.

use entity::secrets::{ActiveModel, Column, Entity, Model};
use sea_orm::{ActiveValue::Set, EntityTrait, QueryOrder, sea_query::OnConflict};

use super::{Error, Store};
use crate::domain::Millis;

/// See [`Store::secrets`].
pub struct Secrets<'a>(pub(super) &'a Store);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedSecret {
    pub name: String,
    pub sealed: Vec<u8>,
    pub created_at: Millis,
    pub updated_at: Millis,
}

impl Secrets<'_> {
    /// By name.
    pub async fn all(&self) -> Result<Vec<SealedSecret>, Error> {
        let rows = Entity::find().order_by_asc(Column::Name).all(&self.0.connection).await?;
        Ok(rows.into_iter().map(SealedSecret::from).collect())
    }

    pub async fn put(&self, name: &str, sealed: Vec<u8>, now: Millis) -> Result<(), Error> {
        let write = self.0.write().await?;
        let row = ActiveModel {
            name: Set(name.to_owned()),
            sealed: Set(sealed),
            created_at: Set(now.0),
            updated_at: Set(now.0),
        };
        let replaced = OnConflict::column(Column::Name)
            .update_columns([Column::Sealed, Column::UpdatedAt])
            .to_owned();
        Entity::insert(row).on_conflict(replaced).exec_without_returning(&*write).await?;
        write.commit().await
    }

    pub async fn remove(&self, name: &str) -> Result<(), Error> {
        let write = self.0.write().await?;
        Entity::delete_by_id(name.to_owned()).exec(&*write).await?;
        write.commit().await
    }
}

impl From<Model> for SealedSecret {
    fn from(row: Model) -> Self {
        Self {
            name: row.name,
            sealed: row.sealed,
            created_at: Millis(row.created_at),
            updated_at: Millis(row.updated_at),
        }
    }
}
