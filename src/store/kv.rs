//! Keys and values of scripts. The journal writes them; this reads.

use entity::{
    kv::{Column, Entity, Model},
    kv_spaces,
};
use sea_orm::{ColumnTrait, Condition, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use super::{Error, Store, encode};
use crate::domain::{
    Millis,
    kv::{Namespace, PAGE_BYTES_MAX, Span, Stored, Usage},
};

/// See [`Store::kv`].
pub struct Kv<'a>(pub(super) &'a Store);

/// A key as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvItem {
    pub key: String,
    pub stored: Stored,
    pub updated_at: Millis,
}

impl Kv<'_> {
    pub async fn find(
        &self,
        namespace: &Namespace,
        key: &str,
        now: Millis,
    ) -> Result<Option<KvItem>, Error> {
        let id = (namespace.to_string(), key.to_owned());
        let found = Entity::find_by_id(id).one(&self.0.connection).await?.map(KvItem::from);
        Ok(found.filter(|item| item.stored.lives(now)))
    }

    /// Part of a namespace in the order of its keys, at most `limit` items; cut where it passes
    /// [`PAGE_BYTES_MAX`]. True when more follow.
    pub async fn page(
        &self,
        namespace: &Namespace,
        span: &Span,
        limit: u32,
        now: Millis,
    ) -> Result<(Vec<KvItem>, bool), Error> {
        let mut query = Entity::find()
            .filter(Column::Namespace.eq(namespace.to_string()))
            .filter(
                Condition::any().add(Column::ExpiresAt.is_null()).add(Column::ExpiresAt.gt(now.0)),
            )
            .order_by_asc(Column::Key);
        if !span.prefix.is_empty() {
            query = query.filter(Column::Key.gte(span.prefix.as_str()));
            if let Some(end) = after_prefix(&span.prefix) {
                query = query.filter(Column::Key.lt(end));
            }
        }
        if let Some(after) = &span.after {
            query = query.filter(Column::Key.gt(after.as_str()));
        }
        let mut items = Vec::new();
        let mut bytes = 0;
        // In steps, for a thousand of the longest values would not fit into memory lightly.
        loop {
            let missing = u64::from(limit) + 1 - items.len() as u64;
            let mut step = query.clone().limit(missing.min(STEP));
            if let Some(KvItem { key, .. }) = items.last() {
                step = step.filter(Column::Key.gt(key.as_str()));
            }
            let rows = step.all(&self.0.connection).await?;
            let is_last = (rows.len() as u64) < missing.min(STEP);
            for row in rows {
                bytes += row.key.len() + row.value.len();
                if items.len() >= limit as usize || !items.is_empty() && bytes > PAGE_BYTES_MAX {
                    return Ok((items, true));
                }
                items.push(KvItem::from(row));
            }
            if is_last {
                return Ok((items, false));
            }
        }
    }

    /// Keys that have expired, at most `limit`.
    pub async fn expired(
        &self,
        now: Millis,
        limit: u64,
    ) -> Result<Vec<(Namespace, String)>, Error> {
        let rows = Entity::find()
            .select_only()
            .columns([Column::Namespace, Column::Key])
            .filter(Column::ExpiresAt.lte(now.0))
            .order_by_asc(Column::ExpiresAt)
            .limit(limit)
            .into_tuple::<(String, String)>()
            .all(&self.0.connection)
            .await?;
        rows.into_iter().map(|(namespace, key)| Ok((parse(&namespace)?, key))).collect()
    }

    /// When the next key expires.
    pub async fn next_expiry(&self) -> Result<Option<Millis>, Error> {
        let next = Entity::find()
            .select_only()
            .column(Column::ExpiresAt)
            .filter(Column::ExpiresAt.is_not_null())
            .order_by_asc(Column::ExpiresAt)
            .limit(1)
            .into_tuple::<i64>()
            .one(&self.0.connection)
            .await?;
        Ok(next.map(Millis))
    }

    /// Every namespace that has keys, in order.
    pub async fn spaces(&self) -> Result<Vec<(Namespace, Usage)>, Error> {
        let rows = kv_spaces::Entity::find()
            .filter(kv_spaces::Column::Keys.gt(0))
            .order_by_asc(kv_spaces::Column::Namespace)
            .all(&self.0.connection)
            .await?;
        rows.into_iter()
            .map(|row| {
                let (keys, bytes) = (encode::unsigned(row.keys), encode::unsigned(row.bytes));
                Ok((parse(&row.namespace)?, Usage { keys, bytes }))
            })
            .collect()
    }
}

/// Rows that are read at once.
const STEP: u64 = 100;

fn parse(namespace: &str) -> Result<Namespace, Error> {
    namespace.parse().map_err(|_| Error::damaged("kv namespace", namespace))
}

/// The first text after all that begin with `prefix`; `None` when there is none.
fn after_prefix(prefix: &str) -> Option<String> {
    let mut head = prefix.to_owned();
    while let Some(last) = head.pop() {
        let next = (u32::from(last) + 1..=u32::from(char::MAX)).find_map(char::from_u32);
        if let Some(next) = next {
            head.push(next);
            return Some(head);
        }
    }
    None
}

impl From<Model> for KvItem {
    fn from(row: Model) -> Self {
        Self {
            key: row.key,
            stored: Stored { value: row.value.into(), expires_at: row.expires_at.map(Millis) },
            updated_at: Millis(row.updated_at),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_prefix_is_the_next_character_that_exists() {
        assert_eq!(after_prefix("a"), Some("b".into()));
        assert_eq!(after_prefix("a\u{d7ff}"), Some("a\u{e000}".into()));
        assert_eq!(after_prefix("a\u{10ffff}"), Some("b".into()));
        assert_eq!(after_prefix("\u{10ffff}"), None);
    }
}
