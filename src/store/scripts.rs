//! Scripts and their versions.

use std::collections::{BTreeSet, HashMap};

use entity::{
    kv, kv_spaces, script_versions,
    scripts::{ActiveModel, Column, Entity, Model},
};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, EntityTrait, IntoActiveModel, PaginatorTrait, QueryFilter,
    QueryOrder, QuerySelect,
};

use super::{Error, Store, encode};
use crate::domain::{Kind, Language, Millis, Script, ScriptId, ScriptVersion, kv::Namespace};

/// See [`Store::scripts`].
pub struct Scripts<'a>(pub(super) &'a Store);

/// A script to be.
#[derive(Clone, Debug)]
pub struct NewScript {
    pub name: String,
    pub description: Option<String>,
    pub language: Language,
    pub source: String,
    pub secrets: Vec<String>,
    pub fetch_allow: Vec<String>,
    pub note: Option<String>,
    /// Name of the token that saves it.
    pub by: Option<String>,
    pub kind: Kind,
    /// Of the modules that it imports, those of its modules included.
    pub imports: Vec<String>,
}

/// What changes of a script; `None` stays.
#[derive(Clone, Debug, Default)]
pub struct ScriptPatch {
    pub name: Option<String>,
    pub description: Option<Option<String>>,
    /// A source that differs from the newest, or another language, makes a version.
    pub source: Option<String>,
    pub language: Option<Language>,
    pub secrets: Option<Vec<String>>,
    pub fetch_allow: Option<Vec<String>>,
    /// Of the newest source.
    pub imports: Option<Vec<String>>,
    pub note: Option<String>,
    pub by: Option<String>,
}

impl Scripts<'_> {
    pub async fn find(&self, id: ScriptId) -> Result<Option<Script>, Error> {
        let model = Entity::find_by_id(id.0).one(&self.0.connection).await?;
        self.with_source(model).await
    }

    /// Names of those that exist.
    pub async fn names(&self, ids: &[ScriptId]) -> Result<HashMap<ScriptId, String>, Error> {
        let ids: BTreeSet<uuid::Uuid> = ids.iter().map(|id| id.0).collect();
        let found = Entity::find()
            .select_only()
            .columns([Column::Id, Column::Name])
            .filter(Column::Id.is_in(ids))
            .into_tuple::<(uuid::Uuid, String)>()
            .all(&self.0.connection)
            .await?;
        Ok(found.into_iter().map(|(id, name)| (ScriptId(id), name)).collect())
    }

    pub async fn by_name(&self, name: &str) -> Result<Option<Script>, Error> {
        let model = Entity::find().filter(Column::Name.eq(name)).one(&self.0.connection).await?;
        self.with_source(model).await
    }

    /// By name, after the given one, at most `limit`; `text` is part of the name, in any case.
    pub async fn page(
        &self,
        text: Option<&str>,
        kind: Option<Kind>,
        after: Option<&str>,
        limit: u64,
    ) -> Result<Vec<Script>, Error> {
        let mut query = Entity::find().order_by_asc(Column::Name).limit(limit);
        if let Some(text) = text {
            query = query.filter(encode::contains("name", text));
        }
        if let Some(kind) = kind {
            query = query.filter(Column::Kind.eq(kind.as_str()));
        }
        if let Some(after) = after {
            query = query.filter(Column::Name.gt(after));
        }
        let mut scripts = Vec::new();
        for model in query.all(&self.0.connection).await? {
            scripts.extend(self.with_source(Some(model)).await?);
        }
        Ok(scripts)
    }

    /// Scripts that a secret is granted to: id and name.
    pub async fn granted(&self, secret: &str) -> Result<Vec<(ScriptId, String)>, Error> {
        let rows = Entity::find()
            .filter(Column::Secrets.is_not_null())
            .order_by_asc(Column::Name)
            .all(&self.0.connection)
            .await?;
        let has = |row: &Model| {
            let names: Vec<String> = encode::list_from(row.secrets.as_deref());
            names.iter().any(|name| name == secret)
        };
        Ok(rows.into_iter().filter(has).map(|row| (ScriptId(row.id), row.name)).collect())
    }

    /// Scripts and modules that import a module, directly or not.
    pub async fn importers(&self, module: &str) -> Result<Vec<Script>, Error> {
        let rows = Entity::find()
            .filter(Column::Imports.is_not_null())
            .order_by_asc(Column::Name)
            .all(&self.0.connection)
            .await?;
        // What a module imports may have come after those who import it were saved.
        let mut names = BTreeSet::from([module.to_owned()]);
        let (mut importers, mut others) = (Vec::new(), rows);
        loop {
            let takes = |row: &Model| {
                let imports: Vec<String> = encode::list_from(row.imports.as_deref());
                imports.iter().any(|name| names.contains(name))
            };
            let (found, left): (Vec<_>, Vec<_>) = others.into_iter().partition(takes);
            if found.is_empty() {
                break;
            }
            others = left;
            names.extend(found.iter().map(|row| row.name.clone()));
            importers.extend(found);
        }
        let mut scripts = Vec::with_capacity(importers.len());
        for row in importers {
            scripts.extend(self.with_source(Some(row)).await?);
        }
        Ok(scripts)
    }

    pub async fn count(&self) -> Result<u64, Error> {
        Ok(Entity::find().count(&self.0.connection).await?)
    }

    pub async fn version(
        &self,
        id: ScriptId,
        version: u32,
    ) -> Result<Option<ScriptVersion>, Error> {
        let model = script_versions::Entity::find_by_id((id.0, i64::from(version)))
            .one(&self.0.connection)
            .await?;
        model.map(ScriptVersion::try_from).transpose()
    }

    /// Newest first, before the given one, at most `limit`.
    pub async fn versions(
        &self,
        id: ScriptId,
        before: Option<u32>,
        limit: u64,
    ) -> Result<Vec<ScriptVersion>, Error> {
        use script_versions::{Column, Entity};
        let mut query = Entity::find()
            .filter(Column::Script.eq(id.0))
            .order_by_desc(Column::Version)
            .limit(limit);
        if let Some(before) = before {
            query = query.filter(Column::Version.lt(before));
        }
        let models = query.all(&self.0.connection).await?;
        models.into_iter().map(ScriptVersion::try_from).collect()
    }

    /// # Errors
    /// [`Error::NameTaken`].
    pub async fn create(&self, new: NewScript) -> Result<Script, Error> {
        let (id, now) = (ScriptId::fresh(), Millis::now());
        let write = self.0.write().await?;
        let row = ActiveModel {
            id: Set(id.0),
            name: Set(new.name.clone()),
            description: Set(new.description),
            version: Set(1),
            created_at: Set(now.0),
            updated_at: Set(now.0),
            revision: Set(1),
            secrets: Set(encode::list(&new.secrets)),
            fetch_allow: Set(encode::list(&new.fetch_allow)),
            kind: Set(new.kind.as_str().to_owned()),
            imports: Set(encode::list(&new.imports)),
        };
        let inserted = Entity::insert(row).exec_without_returning(&*write).await;
        inserted.map_err(|error| Error::or_taken(error, &new.name))?;
        let version = version_row(id, 1, new.language, new.source, new.note, now, new.by);
        script_versions::Entity::insert(version).exec_without_returning(&*write).await?;
        write.commit().await?;
        self.find(id).await?.ok_or_else(|| Error::not_found("script", id))
    }

    /// Changes a script. With `revision`, only if it is still the current one.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::NameTaken`], [`Error::Outdated`].
    pub async fn update(
        &self,
        id: ScriptId,
        revision: Option<u64>,
        patch: ScriptPatch,
    ) -> Result<Script, Error> {
        let write = self.0.write().await?;
        let model = Entity::find_by_id(id.0).one(&*write).await?;
        let model = model.ok_or_else(|| Error::not_found("script", id))?;
        check_revision(revision, &model)?;
        let newest =
            script_versions::Entity::find_by_id((id.0, model.version)).one(&*write).await?;
        let newest = ScriptVersion::try_from(newest.ok_or_else(|| Error::damaged("script", id))?)?;

        let now = Millis::now();
        let name = patch.name.unwrap_or_else(|| model.name.clone());
        let mut version = newest.version;
        let language = patch.language.unwrap_or(newest.language);
        let source = patch.source.unwrap_or_else(|| newest.source.clone());
        if source != newest.source || language != newest.language {
            version += 1;
            let row = version_row(id, version, language, source, patch.note, now, patch.by);
            script_versions::Entity::insert(row).exec_without_returning(&*write).await?;
        }
        let mut row = model.clone().into_active_model();
        row.name = Set(name.clone());
        if let Some(description) = patch.description {
            row.description = Set(description);
        }
        if let Some(secrets) = patch.secrets {
            row.secrets = Set(encode::list(&secrets));
        }
        if let Some(hosts) = patch.fetch_allow {
            row.fetch_allow = Set(encode::list(&hosts));
        }
        if let Some(imports) = patch.imports {
            row.imports = Set(encode::list(&imports));
        }
        row.version = Set(i64::from(version));
        row.updated_at = Set(now.0);
        row.revision = Set(model.revision + 1);
        let updated = Entity::update(row).exec(&*write).await;
        updated.map_err(|error| Error::or_taken(error, &name))?;
        write.commit().await?;
        self.find(id).await?.ok_or_else(|| Error::not_found("script", id))
    }

    /// # Errors
    /// [`Error::NotFound`], [`Error::Outdated`], [`Error::InUse`] while a subscription names it.
    pub async fn delete(&self, id: ScriptId, revision: Option<u64>) -> Result<(), Error> {
        let write = self.0.write().await?;
        let model = Entity::find_by_id(id.0).one(&*write).await?;
        check_revision(revision, &model.ok_or_else(|| Error::not_found("script", id))?)?;
        let subscriptions = entity::subscriptions::Entity::find()
            .filter(entity::subscriptions::Column::Script.eq(id.0))
            .count(&*write)
            .await?;
        if subscriptions > 0 {
            return Err(Error::InUse { subscriptions });
        }
        Entity::delete_by_id(id.0).exec(&*write).await?;
        // Its own keys: nobody is left who could read or write them.
        let own = Namespace::Script(id).to_string();
        let keys = kv::Entity::delete_many().filter(kv::Column::Namespace.eq(own.as_str()));
        keys.exec(&*write).await?;
        kv_spaces::Entity::delete_by_id(own).exec(&*write).await?;
        write.commit().await
    }

    async fn with_source(&self, model: Option<Model>) -> Result<Option<Script>, Error> {
        let Some(model) = model else { return Ok(None) };
        let id = ScriptId(model.id);
        let newest = self.version(id, encode::small(model.version)).await?;
        let newest = newest.ok_or_else(|| Error::damaged("script", id))?;
        Ok(Some(Script {
            id,
            name: model.name,
            description: model.description,
            language: newest.language,
            source: newest.source,
            version: newest.version,
            created_at: Millis(model.created_at),
            updated_at: Millis(model.updated_at),
            secrets: encode::list_from(model.secrets.as_deref()),
            fetch_allow: encode::list_from(model.fetch_allow.as_deref()),
            kind: match model.kind.as_str() {
                "module" => Kind::Module,
                _ => Kind::Script,
            },
            imports: encode::list_from(model.imports.as_deref()),
            revision: encode::unsigned(model.revision),
        }))
    }
}

fn check_revision(expected: Option<u64>, model: &Model) -> Result<(), Error> {
    let current = encode::unsigned(model.revision);
    match expected {
        Some(expected) if expected != current => Err(Error::Outdated { expected, current }),
        _ => Ok(()),
    }
}

fn version_row(
    id: ScriptId,
    version: u32,
    language: Language,
    source: String,
    note: Option<String>,
    at: Millis,
    by: Option<String>,
) -> script_versions::ActiveModel {
    script_versions::ActiveModel {
        script: Set(id.0),
        version: Set(i64::from(version)),
        language: Set(language.as_str().to_owned()),
        source: Set(source),
        note: Set(note),
        created_at: Set(at.0),
        created_by: Set(by),
    }
}

impl TryFrom<script_versions::Model> for ScriptVersion {
    type Error = Error;

    fn try_from(model: script_versions::Model) -> Result<Self, Error> {
        let language = match model.language.as_str() {
            "typescript" => Language::Typescript,
            "javascript" => Language::Javascript,
            _ => return Err(Error::damaged("script", model.script)),
        };
        Ok(Self {
            script: ScriptId(model.script),
            version: encode::small(model.version),
            language,
            source: model.source,
            note: model.note,
            created_at: Millis(model.created_at),
            created_by: model.created_by,
        })
    }
}
