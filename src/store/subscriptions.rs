//! Subscriptions as they are, and the definitions they had. The journal writes; this reads.

use std::collections::{BTreeSet, HashMap};

use entity::{
    subscription_definitions,
    subscriptions::{Column, Entity, Model},
};
use sea_orm::{
    ColumnTrait, Condition, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect,
    Select,
};

use super::{Error, Store, definition, encode};
use crate::domain::{
    Definition, Millis, OnDead, Ordering, ScriptId, Seq, Subscription, SubscriptionId,
    SubscriptionState, TypePattern,
};

/// See [`Store::subscriptions`].
pub struct Subscriptions<'a>(pub(super) &'a Store);

/// From `from` on, events met this definition.
#[derive(Clone, Debug, PartialEq)]
pub struct DefinitionAt {
    pub from: Seq,
    pub definition: Definition,
}

/// What a subscription must have to be listed. Empty takes all.
#[derive(Clone, Debug, Default)]
pub struct SubscriptionFilter {
    pub script: Option<ScriptId>,
    pub state: Option<SubscriptionState>,
    /// An event type that the subscription's pattern takes.
    pub event_type: Option<String>,
    /// Part of the name, in any case.
    pub text: Option<String>,
}

impl Subscriptions<'_> {
    pub async fn all(&self) -> Result<Vec<Subscription>, Error> {
        self.read(Entity::find().order_by_asc(Column::Id)).await
    }

    /// Names of those that exist.
    pub async fn names(
        &self,
        ids: &[SubscriptionId],
    ) -> Result<HashMap<SubscriptionId, String>, Error> {
        let ids: Vec<uuid::Uuid> =
            ids.iter().map(|id| id.0).collect::<BTreeSet<_>>().into_iter().collect();
        let mut names = HashMap::with_capacity(ids.len());
        for part in ids.chunks(super::events::IDS) {
            let found = Entity::find()
                .select_only()
                .columns([Column::Id, Column::Name])
                .filter(Column::Id.is_in(part.iter().copied()))
                .into_tuple::<(uuid::Uuid, String)>()
                .all(&self.0.connection)
                .await?;
            names.extend(found.into_iter().map(|(id, name)| (SubscriptionId(id), name)));
        }
        Ok(names)
    }

    pub async fn find(&self, id: SubscriptionId) -> Result<Option<Subscription>, Error> {
        let model = Entity::find_by_id(id.0).one(&self.0.connection).await?;
        model.map(Subscription::try_from).transpose()
    }

    pub async fn by_name(&self, name: &str) -> Result<Option<Subscription>, Error> {
        let model = Entity::find().filter(Column::Name.eq(name)).one(&self.0.connection).await?;
        model.map(Subscription::try_from).transpose()
    }

    /// By name, after the given one, at most `limit`.
    pub async fn page(
        &self,
        filter: &SubscriptionFilter,
        after: Option<&str>,
        limit: u64,
    ) -> Result<Vec<Subscription>, Error> {
        let mut query = Entity::find().order_by_asc(Column::Name);
        if let Some(script) = filter.script {
            query = query.filter(Column::Script.eq(script.0));
        }
        if let Some(state) = filter.state {
            query = query.filter(in_state(state));
        }
        if let Some(text) = &filter.text {
            query = query.filter(encode::contains("name", text));
        }
        if let Some(event_type) = &filter.event_type {
            // Patterns are matched here: neither database knows what a segment is.
            query = query.filter(takes(event_type));
        }
        let (mut found, mut after) = (Vec::new(), after.map(str::to_owned));
        loop {
            let mut page = query.clone().limit(limit);
            if let Some(after) = &after {
                page = page.filter(Column::Name.gt(after));
            }
            let page = self.read(page).await?;
            let full = page.len() as u64 == limit;
            after = page.last().map(|subscription| subscription.name.clone());
            found.extend(page.into_iter().filter(|subscription| {
                let pattern = &subscription.definition.event_type;
                filter.event_type.as_ref().is_none_or(|event_type| pattern.matches(event_type))
            }));
            if !full || found.len() as u64 >= limit {
                found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
                return Ok(found);
            }
        }
    }

    /// All whose pattern takes this event type, whatever their state or filter.
    pub async fn by_event_type(&self, event_type: &str) -> Result<Vec<Subscription>, Error> {
        let mut found = self.read(Entity::find().filter(takes(event_type))).await?;
        found.retain(|subscription| subscription.definition.event_type.matches(event_type));
        Ok(found)
    }

    /// Some whose pattern does not take this event type and is so like it that it may have been
    /// meant to, at most `limit`.
    pub async fn near_event_type(
        &self,
        event_type: &str,
        limit: u64,
    ) -> Result<Vec<Subscription>, Error> {
        let patterns: Vec<String> = Entity::find()
            .select_only()
            .column(Column::EventType)
            .distinct()
            .into_tuple()
            .all(&self.0.connection)
            .await?;
        let is_near = |text: &String| {
            TypePattern::parse(text).is_ok_and(|pattern| pattern.is_near(event_type))
        };
        let near: Vec<String> =
            patterns.into_iter().filter(is_near).take(super::events::IDS).collect();
        let query = Entity::find().filter(Column::EventType.is_in(near));
        self.read(query.order_by_asc(Column::Id).limit(limit)).await
    }

    pub async fn count_of_script(&self, script: ScriptId) -> Result<u64, Error> {
        Ok(Entity::find().filter(Column::Script.eq(script.0)).count(&self.0.connection).await?)
    }

    pub async fn count(&self) -> Result<u64, Error> {
        Ok(Entity::find().count(&self.0.connection).await?)
    }

    /// In the order of their ids, after this one, at most `limit`.
    pub async fn after(
        &self,
        after: Option<SubscriptionId>,
        limit: u64,
    ) -> Result<Vec<Subscription>, Error> {
        let mut query = Entity::find().order_by_asc(Column::Id).limit(limit);
        if let Some(after) = after {
            query = query.filter(Column::Id.gt(after.0));
        }
        self.read(query).await
    }

    /// The subscription's definition in force at `seq` and all later ones, ascending.
    pub async fn definitions_of(
        &self,
        id: SubscriptionId,
        seq: Seq,
    ) -> Result<Vec<DefinitionAt>, Error> {
        let models = subscription_definitions::Entity::find()
            .filter(subscription_definitions::Column::Subscription.eq(id.0))
            .order_by_asc(subscription_definitions::Column::FromSeq)
            .all(&self.0.connection)
            .await?;
        let mut found: Vec<DefinitionAt> = Vec::with_capacity(models.len());
        for model in models {
            let from = Seq(encode::unsigned(model.from_seq));
            let definition = definition::from_json(&model.definition)
                .ok_or_else(|| Error::damaged("the definition of subscription", id.0))?;
            if from <= seq {
                // The one before is over by then.
                found.clear();
            }
            found.push(DefinitionAt { from, definition });
        }
        Ok(found)
    }

    /// Drops definitions that were over before `below`: recovery reads no older events.
    pub async fn prune_definitions(&self, below: Seq) -> Result<u64, Error> {
        use subscription_definitions::{Column, Entity};
        let mut keys: HashMap<uuid::Uuid, Vec<i64>> = HashMap::new();
        let all: Vec<(uuid::Uuid, i64)> = Entity::find()
            .select_only()
            .columns([Column::Subscription, Column::FromSeq])
            .filter(Column::FromSeq.lte(encode::int(below.0)))
            .into_tuple()
            .all(&self.0.connection)
            .await?;
        for (subscription, from) in all {
            keys.entry(subscription).or_default().push(from);
        }
        let mut pruned = 0;
        for (subscription, froms) in keys.into_iter().filter(|(_, froms)| froms.len() > 1) {
            let in_force = froms.into_iter().max().unwrap_or_default();
            let write = self.0.write().await?;
            pruned += Entity::delete_many()
                .filter(Column::Subscription.eq(subscription))
                .filter(Column::FromSeq.lt(in_force))
                .exec(&*write)
                .await?
                .rows_affected;
            write.commit().await?;
        }
        Ok(pruned)
    }

    async fn read(&self, query: Select<Entity>) -> Result<Vec<Subscription>, Error> {
        let models = query.all(&self.0.connection).await?;
        models.into_iter().map(Subscription::try_from).collect()
    }
}

/// Exactly this type, or a pattern that may take it.
fn takes(event_type: &str) -> Condition {
    Condition::any().add(Column::EventType.eq(event_type)).add(Column::EventType.contains("*"))
}

/// The same order as [`Subscription::state`].
fn in_state(state: SubscriptionState) -> Condition {
    let suspended = Condition::all().add(Column::Suspended.is_not_null());
    let running = Condition::all().add(Column::Suspended.is_null());
    match state {
        SubscriptionState::Suspended => suspended,
        SubscriptionState::Paused => running.add(Column::Paused.eq(true)),
        SubscriptionState::Active => {
            running.add(Column::Paused.eq(false)).add(Column::IsActive.eq(true))
        }
        SubscriptionState::Inactive => {
            running.add(Column::Paused.eq(false)).add(Column::IsActive.eq(false))
        }
    }
}

impl TryFrom<Model> for Subscription {
    type Error = Error;

    fn try_from(model: Model) -> Result<Self, Error> {
        let damaged = || Error::damaged("subscription", model.id);
        let definition = Definition {
            script: ScriptId(model.script),
            script_version: model.script_version.map(encode::small),
            event_type: TypePattern::parse(&model.event_type).map_err(|_| damaged())?,
            filter: model.filter.clone(),
            is_active: model.is_active,
            retry_policy: serde_json::from_str(&model.retry_policy).map_err(|_| damaged())?,
            concurrency: encode::small(model.concurrency),
            ordering: match model.ordering.as_str() {
                "strict" => Ordering::Strict,
                _ => Ordering::Relaxed,
            },
            ordering_key: model.ordering_key.clone(),
            on_dead: match model.on_dead.as_str() {
                "continue" => OnDead::Continue,
                _ => OnDead::Suspend,
            },
            limits: serde_json::from_str(&model.limits).map_err(|_| damaged())?,
        };
        Ok(Self {
            id: SubscriptionId(model.id),
            name: model.name,
            definition,
            from_seq: Seq(encode::unsigned(model.from_seq)),
            paused: model.paused,
            suspended: model.suspended,
            cursor: model.cursor.map(|seq| Seq(encode::unsigned(seq))),
            created_at: Millis(model.created_at),
            updated_at: Millis(model.updated_at),
            revision: encode::unsigned(model.revision),
        })
    }
}
