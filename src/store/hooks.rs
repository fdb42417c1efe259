//! Inbound webhooks, as they were defined.

use std::time::Duration;

use entity::hooks::{Entity, Model};
use sea_orm::{ActiveModelTrait, EntityTrait, IntoActiveModel};

use super::{Error, Store, encode};
use crate::domain::{
    Millis, Span,
    hook::{Hook, Preset, Template},
};

/// See [`Store::hooks`].
pub struct Hooks<'a>(pub(super) &'a Store);

impl Hooks<'_> {
    pub async fn all(&self) -> Result<Vec<Hook>, Error> {
        let rows = Entity::find().all(&self.0.connection).await?;
        rows.into_iter().map(Hook::try_from).collect()
    }

    /// # Errors
    /// [`Error::NameTaken`].
    pub async fn create(&self, hook: &Hook) -> Result<(), Error> {
        let write = self.0.write().await?;
        if Entity::find_by_id(hook.name.clone()).one(&*write).await?.is_some() {
            return Err(Error::NameTaken { name: hook.name.clone() });
        }
        Entity::insert(row(hook).into_active_model()).exec_without_returning(&*write).await?;
        write.commit().await
    }

    /// Replaces the one of this name.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn replace(&self, hook: &Hook) -> Result<(), Error> {
        let write = self.0.write().await?;
        if Entity::find_by_id(hook.name.clone()).one(&*write).await?.is_none() {
            return Err(Error::not_found("hook", &hook.name));
        }
        Entity::update(row(hook).into_active_model().reset_all()).exec(&*write).await?;
        write.commit().await
    }

    /// # Errors
    /// [`Error::NotFound`].
    pub async fn delete(&self, name: &str) -> Result<(), Error> {
        let write = self.0.write().await?;
        let deleted = Entity::delete_by_id(name.to_owned()).exec(&*write).await?;
        if deleted.rows_affected == 0 {
            return Err(Error::not_found("hook", name));
        }
        write.commit().await
    }
}

fn row(hook: &Hook) -> Model {
    Model {
        name: hook.name.clone(),
        preset: hook.preset.as_str().into(),
        secrets: encode::json(&hook.secrets),
        header: hook.header.clone(),
        tolerance: i64::try_from(hook.tolerance.0.as_millis()).unwrap_or(i64::MAX),
        event_type: hook.event_type.to_string(),
        subject: hook.subject.as_ref().map(Template::to_string),
        event_id: hook.event_id.as_ref().map(Template::to_string),
        is_active: hook.is_active,
        created_at: hook.created_at.0,
        updated_at: hook.updated_at.0,
        revision: encode::int(hook.revision),
    }
}

impl TryFrom<Model> for Hook {
    type Error = Error;

    fn try_from(row: Model) -> Result<Self, Error> {
        let damaged = || Error::damaged("hook", &row.name);
        let template = |text: &str| Template::parse(text).map_err(|_| damaged());
        Ok(Self {
            preset: Preset::parse(&row.preset).ok_or_else(damaged)?,
            secrets: serde_json::from_str(&row.secrets).map_err(|_| damaged())?,
            tolerance: Span(Duration::from_millis(encode::unsigned(row.tolerance))),
            event_type: template(&row.event_type)?,
            subject: row.subject.as_deref().map(template).transpose()?,
            event_id: row.event_id.as_deref().map(template).transpose()?,
            is_active: row.is_active,
            created_at: Millis(row.created_at),
            updated_at: Millis(row.updated_at),
            revision: encode::unsigned(row.revision),
            header: row.header,
            name: row.name,
        })
    }
}
