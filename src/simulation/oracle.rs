//! What must hold, told from what was acknowledged and from the disk alone.

use std::collections::BTreeMap;

use super::{
    disk::{Contents, Kept},
    process::takes,
    script::Script,
};
use crate::domain::{
    DeliveryId, Event, EventId, Seq, SubscriptionId,
    block::{BlockEntry, Outcome},
};

#[derive(Default)]
pub(super) struct Oracle {
    /// Uids by the publisher's number, as acknowledged.
    pub(super) acknowledged: BTreeMap<u64, EventId>,
    /// Backfills whose cursor was on disk.
    pub(super) backfills: Vec<(SubscriptionId, Seq)>,
    /// Backfills that were begun: a crash may have ended them, or not.
    pub(super) begun: Vec<(SubscriptionId, Seq)>,
}

impl Oracle {
    /// Whether an event is a delivery of a subscription: `None`, nobody can say.
    fn owes(&self, kept: &Kept, id: SubscriptionId, event: &Event) -> Option<bool> {
        if kept.deleted_from.is_some() {
            return None;
        }
        let in_force = kept.history.iter().rev().find(|(from, _)| *from <= event.seq);
        if in_force.is_some_and(|(_, definition)| takes(definition, event)) {
            return Some(true);
        }
        if in_force.is_some() || !takes(&kept.history[0].1, event) {
            return Some(false);
        }
        let reached = |(of, from): &(SubscriptionId, Seq)| *of == id && *from <= event.seq;
        match (self.backfills.iter().any(reached), self.begun.iter().any(reached)) {
            // Which definition the past met is plain only of one that never changed.
            (true, _) => (!kept.is_changed).then_some(true),
            (false, true) => None,
            (false, false) => Some(false),
        }
    }

    /// At any moment: a crash now would lose nothing, for each delivery up to the watermark is
    /// settled, has a row or a letter, or lies above the cursor of its subscription.
    pub(super) fn check_watermark(&self, disk: &Contents) {
        for (&id, kept) in &disk.subscriptions {
            for event in disk.range(Seq(0), disk.watermark, usize::MAX) {
                // The cheap questions first.
                let has_row = |delivery| {
                    disk.rows.contains_key(&delivery) || disk.letters.contains_key(&delivery)
                };
                let is_held = kept.cursor.is_some_and(|cursor| cursor <= event.seq)
                    || disk.settled.contains(&(event.seq, id))
                    || has_row(DeliveryId::of(event.uid, id));
                let is_backfill = kept.history[0].0 > event.seq;
                assert!(
                    is_held || is_backfill || self.owes(kept, id, &event) != Some(true),
                    "a crash now loses event {} for {id}: watermark {}, cursor {:?}",
                    event.seq.0,
                    disk.watermark.0,
                    kept.cursor
                );
            }
        }
    }

    /// At rest: everything acknowledged is there, once, and each delivery ended, once, with what it
    /// emits.
    pub(super) fn check_rest(&self, disk: &Contents, script: Script) {
        assert_eq!(disk.watermark, disk.seq, "the watermark stops short of the log's end");
        self.check_published(disk);
        let mut attempts: BTreeMap<(Seq, SubscriptionId), Vec<&BlockEntry>> = BTreeMap::new();
        for entry in disk.entries().filter(|entry| entry.outcome != Outcome::Noted) {
            attempts.entry((entry.seq, entry.subscription)).or_default().push(entry);
        }
        let children = children(disk);
        for (&id, kept) in &disk.subscriptions {
            for event in disk.events.values() {
                let Some(is_owed) = self.owes(kept, id, event) else { continue };
                let met = attempts.remove(&(event.seq, id)).unwrap_or_default();
                let what = format!("event {} for {}: {met:?}", event.seq.0, told(kept, event));
                assert!(is_owed || met.is_empty(), "not wanted, but handled: {what}");
                if is_owed {
                    let succeeded = check_attempts(disk, event, id, &met, &what);
                    let emitted = children.get(&(event.uid, id)).copied().unwrap_or_default();
                    let expected = if succeeded { script.emits(event, id) } else { 0 };
                    assert_eq!(emitted, expected, "emits: {what}");
                }
            }
        }
    }

    fn check_published(&self, disk: &Contents) {
        let mut seen = BTreeMap::new();
        for event in disk.events.values().filter(|event| event.lineage.cause.is_none()) {
            if let Some(id) = &event.envelope.id {
                let number: u64 = id.parse().expect("a number");
                assert!(seen.insert(number, event.uid).is_none(), "{number} is there twice");
            }
        }
        for (number, uid) in &self.acknowledged {
            assert_eq!(seen.get(number), Some(uid), "{number} was acknowledged");
        }
    }
}

/// True if the delivery succeeded; otherwise it rests as a letter. Fails on anything else.
fn check_attempts(
    disk: &Contents,
    event: &Event,
    id: SubscriptionId,
    met: &[&BlockEntry],
    what: &str,
) -> bool {
    let of = |outcome| met.iter().filter(|entry| entry.outcome == outcome).count();
    let letter = disk.letters.get(&DeliveryId::of(event.uid, id));
    let rests = letter.is_some_and(|letter| !letter.is_replayed && !letter.is_replaying);
    let succeeded = of(Outcome::Succeeded);
    assert!(succeeded + usize::from(rests) == 1, "letter rests: {rests}; {what}");
    let deaths = letter.map_or(0, |letter| letter.replays as usize + usize::from(rests));
    let deaths = if rests { deaths } else { letter.map_or(0, |l| l.replays as usize + 1) };
    assert_eq!(of(Outcome::Dead), deaths, "deaths: {what}");
    for replay in 0..=letter.map_or(0, |letter| letter.replays + 1) {
        let mut numbers: Vec<u32> =
            met.iter().filter(|entry| entry.replay == replay).map(|entry| entry.attempt).collect();
        numbers.sort_unstable();
        let most = disk.subscriptions[&id].history.iter().map(|(_, d)| d.retry_policy.max_attempts);
        let expected: Vec<u32> = (1..=numbers.len() as u32).collect();
        assert_eq!(numbers, expected, "attempts are counted: {what}");
        assert!(numbers.len() as u32 <= most.max().unwrap_or(0), "too many attempts: {what}");
    }
    succeeded == 1
}

/// Events by the run that emitted them.
fn children(disk: &Contents) -> BTreeMap<(EventId, SubscriptionId), u32> {
    let mut children = BTreeMap::new();
    for cause in disk.events.values().filter_map(|event| event.lineage.cause) {
        *children.entry((cause.event, cause.subscription)).or_insert(0) += 1;
    }
    children
}

/// What an event of a type met, for who reads why it failed.
fn told(kept: &Kept, event: &Event) -> String {
    let of = |(from, d): &(Seq, crate::domain::Definition)| {
        format!("{}: {} {:?} {}", from.0, d.event_type.as_str(), d.filter, d.is_active)
    };
    let history: Vec<String> = kept.history.iter().map(of).collect();
    format!("{} {:?} under {history:?}", event.envelope.event_type, event.data)
}
