//! Dying deliveries become letters.

use std::collections::HashMap;

use entity::{
    dead_letters::{ActiveModel, Column, Entity, Model},
    deliveries, events, subscriptions,
};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, EntityTrait, IntoActiveModel, QueryFilter, QuerySelect,
};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{LetterStatus, Letters};
use crate::{
    domain::{
        ErrorKind, LetterId, Lineage, Millis, RunError, ScheduledId, ScriptId, alert::Died,
        event::is_reserved, storm::Budget, trace::TraceContext,
    },
    store::{
        Error, Write, encode,
        journal::{DeliveryRow, Scheduled},
        scheduled,
    },
};

/// Letters per statement: each has some twenty columns, and a statement 32,766 parameters.
const SLICE: usize = 1_000;

/// Which letters are announced as events.
#[derive(Debug)]
pub struct Announcer {
    /// What of the current window was spent before.
    pub budget: Budget,
    /// What these letters spend.
    pub spent: Budget,
    /// `limits.max_hops`.
    pub max_hops: u32,
}

impl Announcer {
    /// A delivery of the runtime's own event that dies is not announced: what fails to handle alerts
    /// would cause the next. Further down, the chain of what an alert caused ends as chains of emits
    /// do.
    fn takes(&mut self, row: &DeliveryRow, event: &EventFacts) -> bool {
        let may_be_told = !is_reserved(&event.event_type) && event.lineage.hop < self.max_hops;
        let takes = may_be_told && self.budget.has_room(row.subscription);
        if may_be_told {
            self.budget.note(row.subscription, takes);
            self.spent.note(row.subscription, takes);
        }
        takes
    }
}

impl Letters<'_> {
    /// Makes letters of dying rows and removes the rows, in one transaction. A row that replays a
    /// letter makes it `dead` again; one recorded before changes nothing. The letters' ids come in
    /// the order of the rows.
    pub async fn record(&self, rows: &[DeliveryRow]) -> Result<Vec<LetterId>, Error> {
        let mut ids = Vec::with_capacity(rows.len());
        for rows in rows.chunks(SLICE) {
            let write = self.0.write().await?;
            ids.extend(record(&write, rows, None).await?.0);
            write.commit().await?;
        }
        Ok(ids)
    }

    /// The same for at most 1,000 rows, and in the same transaction the events that announce the
    /// letters are written as rows of `scheduled`: the journal takes each into the log in one commit
    /// with the end of its row. So no crash loses or doubles one, and none comes before its letter.
    ///
    /// On an error `announcer` has counted what was not written: take another one for the next try.
    pub async fn record_and_announce(
        &self,
        rows: &[DeliveryRow],
        announcer: &mut Announcer,
    ) -> Result<Vec<Scheduled>, Error> {
        let write = self.0.write().await?;
        let (_, alerts) = record(&write, rows, Some(announcer)).await?;
        scheduled::add(&write, &alerts).await?;
        write.commit().await?;
        Ok(alerts)
    }
}

async fn record(
    write: &Write,
    rows: &[DeliveryRow],
    mut announcer: Option<&mut Announcer>,
) -> Result<(Vec<LetterId>, Vec<Scheduled>), Error> {
    let deliveries = rows.iter().map(|row| row.id.0);
    let known =
        Entity::find().filter(Column::Delivery.is_in(deliveries.clone())).all(&**write).await?;
    let known: HashMap<Uuid, Model> =
        known.into_iter().map(|letter| (letter.delivery, letter)).collect();
    let names = subscription_names(write, rows).await?;
    let events = event_facts(write, rows).await?;
    let unknown = EventFacts::default();
    // As bulk operations compare it with their beginning.
    let now = Millis::steady();

    let (mut ids, mut fresh) = (Vec::with_capacity(rows.len()), Vec::new());
    let mut alerts = Vec::new();
    for row in rows {
        let event = events.get(&encode::int(row.seq.0)).unwrap_or(&unknown);
        let error = row.error.clone().unwrap_or_else(|| RunError {
            kind: ErrorKind::Exception,
            message: "the attempts were spent".into(),
            stack: None,
        });
        let fingerprint = fingerprint(&error);
        // A subscription deleted meanwhile leaves its id for a name.
        let (name, script) = names
            .get(&row.subscription.0)
            .cloned()
            .unwrap_or_else(|| (row.subscription.to_string(), Uuid::nil()));
        let mut announce = |letter: LetterId| {
            if announcer.as_mut().is_some_and(|announcer| announcer.takes(row, event)) {
                let died = Died {
                    letter,
                    subscription: row.subscription,
                    subscription_name: &name,
                    script: ScriptId(script),
                    script_version: row.script_version,
                    event: row.event,
                    event_type: &event.event_type,
                    lineage: &event.lineage,
                    error_kind: error.kind,
                    message: &error.message,
                    fingerprint: &fingerprint,
                    attempts: row.attempts,
                    replays: row.replay,
                    first_failed_at: row.first_failed_at.unwrap_or(now),
                    died_at: now,
                };
                let mut alert = died.event();
                alert.envelope.extensions = event.trace.as_ref().map(|trace| trace.extend(None));
                alerts.push(Scheduled::at_once(ScheduledId::fresh(), alert, now));
            }
        };
        if let Some(letter) = known.get(&row.id.0) {
            ids.push(LetterId(letter.id));
            if letter.replays < i64::from(row.replay)
                || letter.status == LetterStatus::Replaying.as_str()
            {
                announce(LetterId(letter.id));
                let mut again = letter.clone().into_active_model();
                again.status = Set(LetterStatus::Dead.as_str().into());
                again.replays = Set(i64::from(row.replay));
                again.script_version = Set(i64::from(row.script_version));
                again.attempts = Set(i64::from(row.attempts));
                again.died_at = Set(now.0);
                again.fingerprint = Set(fingerprint);
                again.error_kind = Set(error.kind.as_str().into());
                again.error_message = Set(error.message);
                again.error_stack = Set(error.stack);
                again.revision = Set(letter.revision + 1);
                Entity::update(again).exec(&**write).await?;
            }
            continue;
        }
        let id = LetterId::fresh();
        ids.push(id);
        announce(id);
        fresh.push(ActiveModel {
            id: Set(id.0),
            delivery: Set(row.id.0),
            status: Set(LetterStatus::Dead.as_str().into()),
            subscription: Set(row.subscription.0),
            subscription_name: Set(name),
            script: Set(script),
            script_version: Set(i64::from(row.script_version)),
            event: Set(row.event.0),
            seq: Set(encode::int(row.seq.0)),
            event_type: Set(event.event_type.clone()),
            error_kind: Set(error.kind.as_str().into()),
            error_message: Set(error.message),
            error_stack: Set(error.stack),
            fingerprint: Set(fingerprint),
            attempts: Set(i64::from(row.attempts)),
            first_failed_at: Set(row.first_failed_at.unwrap_or(now).0),
            died_at: Set(now.0),
            replays: Set(i64::from(row.replay)),
            data: Set(row.data.clone()),
            discarded_at: Set(None),
            discarded_by: Set(None),
            skipped_at: Set(None),
            revision: Set(1),
        });
    }
    if !fresh.is_empty() {
        Entity::insert_many(fresh).exec_without_returning(&**write).await?;
    }
    deliveries::Entity::delete_many()
        .filter(deliveries::Column::Id.is_in(deliveries))
        .exec(&**write)
        .await?;
    Ok((ids, alerts))
}

/// Name and script of the rows' subscriptions.
async fn subscription_names(
    write: &Write,
    rows: &[DeliveryRow],
) -> Result<HashMap<Uuid, (String, Uuid)>, Error> {
    use subscriptions::{Column, Entity};
    let mut ids: Vec<Uuid> = rows.iter().map(|row| row.subscription.0).collect();
    ids.sort_unstable();
    ids.dedup();
    let found: Vec<(Uuid, String, Uuid)> = Entity::find()
        .select_only()
        .columns([Column::Id, Column::Name, Column::Script])
        .filter(Column::Id.is_in(ids))
        .into_tuple()
        .all(&**write)
        .await?;
    Ok(found.into_iter().map(|(id, name, script)| (id, (name, script))).collect())
}

/// What a letter and its announcement say of the event.
#[derive(Default)]
struct EventFacts {
    event_type: String,
    lineage: Lineage,
    /// The trace it is part of, and what it causes too.
    trace: Option<TraceContext>,
}

async fn event_facts(
    write: &Write,
    rows: &[DeliveryRow],
) -> Result<HashMap<i64, EventFacts>, Error> {
    use events::{Column, Entity};
    let found: Vec<(i64, String, i64, i64, Option<String>)> = Entity::find()
        .select_only()
        .columns([Column::Seq, Column::Type, Column::Hop, Column::Spread, Column::Extensions])
        .filter(Column::Seq.is_in(rows.iter().map(|row| encode::int(row.seq.0))))
        .into_tuple()
        .all(&**write)
        .await?;
    let facts = |(seq, event_type, hop, spread, extensions): (_, _, _, _, Option<String>)| {
        let (hop, spread) = (encode::small(hop), encode::unsigned(spread));
        let trace = TraceContext::of_extensions(extensions.as_deref());
        (seq, EventFacts { event_type, lineage: Lineage { cause: None, hop, spread }, trace })
    };
    Ok(found.into_iter().map(facts).collect())
}

/// Groups errors that say the same: kind and first line, with numbers and quoted values left out.
fn fingerprint(error: &RunError) -> String {
    let line = error.message.lines().next().unwrap_or_default();
    let mut text = String::with_capacity(line.len());
    let mut letters = line.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' | '\'' | '`' => {
                // An apostrophe has no partner: what follows it stays.
                let rest: String = letters.clone().collect();
                if let Some(end) = rest.find(letter) {
                    let quoted = rest[..end].chars().count();
                    letters.nth(quoted);
                    text.push_str("''");
                } else {
                    text.push(letter);
                }
            }
            '0'..='9' => {
                while letters
                    .next_if(|next| next.is_ascii_hexdigit() || matches!(next, '.' | '-'))
                    .is_some()
                {}
                text.push('0');
            }
            other => text.push(other),
        }
    }
    let mut hasher = Sha256::new();
    hasher.update(error.kind.as_str());
    hasher.update([0]);
    hasher.update(&text);
    hasher.finalize()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(message: &str) -> String {
        fingerprint(&RunError { kind: ErrorKind::Exception, message: message.into(), stack: None })
    }

    #[test]
    fn errors_that_differ_in_values_only_share_a_fingerprint() {
        assert_eq!(of("no order 17 for \"ann\""), of("no order 204 for \"bob\""));
        assert_eq!(of("got 502 at 12.5"), of("got 503 at 9.25"));
        assert_eq!(of("first line\nsecond"), of("first line\nthird"));
    }

    #[test]
    fn errors_that_say_different_things_do_not() {
        assert_ne!(of("no order 17"), of("no payment 17"));
        assert_ne!(of("can't read a"), of("can't read b"));
    }
}
