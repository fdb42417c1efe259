//! Recordings of runs. What is in them, this does not know.

use entity::recordings::{Column, Entity};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QuerySelect};

use super::{Error, Store, encode};
use crate::domain::RunId;

/// See [`Store::recordings`].
pub struct Recordings<'a>(pub(super) &'a Store);

impl Recordings<'_> {
    pub async fn find(&self, run: RunId) -> Result<Option<Vec<u8>>, Error> {
        let row = Entity::find_by_id(encode::int(run.number())).one(&self.0.connection).await?;
        Ok(row.map(|row| row.content))
    }

    /// Those of these runs that there is one of.
    pub async fn of(&self, runs: &[RunId]) -> Result<Vec<RunId>, Error> {
        let mut found = Vec::new();
        for part in runs.chunks(super::events::IDS) {
            let numbers: Vec<i64> = Entity::find()
                .select_only()
                .column(Column::Number)
                .filter(Column::Number.is_in(part.iter().map(|run| encode::int(run.number()))))
                .into_tuple()
                .all(&self.0.connection)
                .await?;
            found.extend(part.iter().filter(|run| numbers.contains(&encode::int(run.number()))));
        }
        Ok(found)
    }
}
