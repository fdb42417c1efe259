//! What is old goes, and what is needed stays.

use tripline::{
    domain::{Event, Millis, Seq, SubscriptionId, block::Outcome},
    store::{RetentionPlan, journal::RowStatus},
};

use super::support::{Db, Owner, create, delivery, entry, event, on_both, run, script, with_block};

on_both!(
    old_events_go_with_their_keys_and_outcomes,
    what_is_needed_stays,
    a_cursor_holds_what_it_has_to_read,
    old_runs_and_letters_go,
    keys_may_outlive_their_events,
);

/// Everything is old.
fn everything(watermark: u64) -> RetentionPlan {
    let far = Some(Millis(2_000_000_000_000));
    RetentionPlan {
        events_before: far,
        runs_before: far,
        letters_before: None,
        keys_before: far,
        audit_before: far,
        watermark: Seq(watermark),
    }
}

fn apply(db: &Db, owner: &Owner, plan: &RetentionPlan) -> u64 {
    let mut removed = 0;
    loop {
        match db.wait(owner.store.retention().step(plan, 3)).unwrap() {
            0 => return removed,
            some => removed += some,
        }
    }
}

fn left(db: &Db, owner: &Owner) -> Vec<u64> {
    let events: Vec<Event> = db.wait(owner.store.events().range(Seq(0), 1_000, 1 << 30)).unwrap();
    events.iter().map(|event| event.seq.0).collect()
}

fn old_events_go_with_their_keys_and_outcomes(db: Db) {
    let mut owner = db.claim();
    let a = SubscriptionId::fresh();
    let events = owner.with_events((0..10).map(|n| event("a", Some(&n.to_string()), "{}")));
    owner.commit(&events);
    let outcomes: Vec<_> = (1..=8).map(|seq| entry(seq, a, Outcome::Succeeded, None)).collect();
    let commit = with_block(owner.next(), &outcomes, 8);
    owner.commit(&commit);
    let mut plan = everything(8);
    plan.events_before = Some(events.events[6].accepted_at);
    assert!(apply(&db, &owner, &plan) >= 6);
    assert_eq!(left(&db, &owner), [7, 8, 9, 10]);
    let known = owner.journal.known(&[events.keys[0].0, events.keys[6].0]).unwrap();
    assert_eq!(known[0], None);
    assert!(known[1].is_some());
    assert_eq!(db.wait(owner.store.outcomes().of_event(Seq(7))).unwrap().len(), 1);
    // Above the watermark nothing goes, however old.
    apply(&db, &owner, &everything(8));
    assert_eq!(left(&db, &owner), [9, 10]);
}

fn what_is_needed_stays(db: Db) {
    let mut owner = db.claim();
    let script = script(&db, &owner.store, "s").id;
    let (a, change) = create("a", "**", script, 1);
    let mut commit = owner.with_events((0..9).map(|_| event("a", None, "{}")));
    commit.changes = vec![change];
    commit.rows = vec![
        delivery(&commit.events[1], a, RowStatus::Retrying, 5),
        delivery(&commit.events[3], a, RowStatus::Dying, 5),
        delivery(&commit.events[5], a, RowStatus::Dying, 5),
    ];
    owner.commit(&commit);
    let dying = db.wait(owner.store.deliveries().dying(9)).unwrap();
    let ids = db.wait(owner.store.letters().record(&dying)).unwrap();
    apply(&db, &owner, &everything(9));
    assert_eq!(left(&db, &owner), [2, 4, 6]);
    // A discarded letter holds nothing.
    db.wait(owner.store.letters().discard(ids[0])).unwrap();
    db.wait(owner.store.letters().discard(ids[1])).unwrap();
    apply(&db, &owner, &everything(9));
    assert_eq!(left(&db, &owner), [2]);
}

fn a_cursor_holds_what_it_has_to_read(db: Db) {
    let mut owner = db.claim();
    let script = script(&db, &owner.store, "s").id;
    let (a, change) = create("a", "**", script, 1);
    let mut commit = owner.with_events((0..6).map(|_| event("a", None, "{}")));
    commit.changes = vec![change];
    owner.commit(&commit);
    let mut commit = owner.next();
    commit.cursors = vec![(a, Some(Seq(4)))];
    owner.commit(&commit);
    apply(&db, &owner, &everything(6));
    assert_eq!(left(&db, &owner), [4, 5, 6]);
}

fn old_runs_and_letters_go(db: Db) {
    let mut owner = db.claim();
    let script = script(&db, &owner.store, "s").id;
    let (a, change) = create("a", "**", script, 1);
    let mut commit = owner.with_events([event("a", None, "{}")]);
    commit.changes = vec![change];
    commit.rows = vec![delivery(&commit.events[0], a, RowStatus::Dying, 5)];
    owner.commit(&commit);
    let dying = db.wait(owner.store.deliveries().dying(9)).unwrap();
    let ids = db.wait(owner.store.letters().record(&dying)).unwrap();
    let runs = (1..=10).map(|number| (run(number, &commit.events[0], a, script), vec![])).collect();
    owner.commit_runs(runs);
    // Runs start at base + number.
    let plan = RetentionPlan { runs_before: Some(Millis(1_790_000_000_005)), ..everything(1) };
    apply(&db, &owner, &plan);
    let kept = db.wait(owner.store.runs().page(&Default::default(), None, 99)).unwrap();
    assert_eq!(kept.iter().map(|run| run.id.number()).min(), Some(5));
    assert!(
        db.wait(owner.store.letters().find(ids[0])).unwrap().is_some(),
        "never, unless asked to"
    );
    let plan = RetentionPlan { letters_before: Some(Millis(i64::MAX)), ..everything(1) };
    apply(&db, &owner, &plan);
    assert_eq!(db.wait(owner.store.letters().find(ids[0])).unwrap(), None);
    assert!(left(&db, &owner).is_empty());
}

fn keys_may_outlive_their_events(db: Db) {
    let mut owner = db.claim();
    let events = owner.with_events((0..4).map(|n| event("a", Some(&n.to_string()), "{}")));
    owner.commit(&events);
    let mut plan = everything(4);
    plan.keys_before = Some(events.events[2].accepted_at);
    apply(&db, &owner, &plan);
    assert!(left(&db, &owner).is_empty());
    let keys: Vec<_> = events.keys.iter().map(|(key, _)| *key).collect();
    let known = owner.journal.known(&keys).unwrap();
    let known: Vec<bool> = known.iter().map(Option::is_some).collect();
    assert_eq!(known, [false, false, true, true]);
    // Their time comes without an event to go with.
    plan.keys_before = Some(Millis(plan.events_before.unwrap().0 - 1));
    apply(&db, &owner, &plan);
    assert!(owner.journal.known(&keys).unwrap().iter().all(Option::is_none));
}
