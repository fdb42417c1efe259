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
    events_beyond_their_room_go_oldest_first,
    letters_beyond_their_room_go_when_they_have_ended,
    keys_may_outlive_their_events,
    sealed_keys_are_found_and_forgotten,
    a_forgotten_key_may_be_taken_again,
);

/// Everything is old.
fn everything(watermark: u64) -> RetentionPlan {
    let far = Some(Millis(2_000_000_000_000));
    RetentionPlan {
        events_before: far,
        runs_before: far,
        letters_before: None,
        audit_before: far,
        watermark: Seq(watermark),
        ..RetentionPlan::default()
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
    let keys = [events.keys[0].0, events.keys[6].0];
    let known = owner.journal.known(&keys, Millis(i64::MAX)).unwrap();
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

fn events_beyond_their_room_go_oldest_first(db: Db) {
    let mut owner = db.claim();
    let script = script(&db, &owner.store, "s").id;
    let (a, change) = create("a", "**", script, 1);
    let payload = format!("\"{}\"", "x".repeat(100_000));
    for round in 0..8 {
        let mut commit = owner.with_events((0..5).map(|_| event("a", None, &payload)));
        if round == 0 {
            commit.changes = vec![change.clone()];
            commit.rows = vec![delivery(&commit.events[1], a, RowStatus::Retrying, 5)];
        }
        owner.commit(&commit);
    }
    let kept = |owner: &Owner| db.wait(owner.store.retention().kept()).unwrap().events;
    assert!((4_000_000..4_100_000).contains(&kept(&owner)), "{}", kept(&owner));
    let plan = RetentionPlan {
        events_bytes: Some(2_100_000),
        watermark: Seq(40),
        ..RetentionPlan::default()
    };
    apply(&db, &owner, &plan);
    let mut expected = vec![2];
    expected.extend(21..=40);
    assert_eq!(left(&db, &owner), expected, "what waits stays, whatever room there is");
    assert!((1_900_000..2_100_000).contains(&kept(&owner)), "{}", kept(&owner));
    // What is not settled stays, and there is nothing to do twice.
    let tight = RetentionPlan { events_bytes: Some(1), watermark: Seq(30), ..plan };
    apply(&db, &owner, &tight);
    assert_eq!(left(&db, &owner), [&[2], &(31..=40).collect::<Vec<_>>()[..]].concat());
    assert_eq!(apply(&db, &owner, &tight), 0);
    assert!(db.wait(owner.store.retention().kept_since(&tight)).unwrap() < Millis::now());
}

fn letters_beyond_their_room_go_when_they_have_ended(db: Db) {
    let mut owner = db.claim();
    let script = script(&db, &owner.store, "s").id;
    let (a, change) = create("a", "**", script, 1);
    let mut commit = owner.with_events((0..6).map(|_| event("a", None, "{}")));
    commit.changes = vec![change];
    let dying = |event| delivery(event, a, RowStatus::Dying, 5);
    commit.rows = commit.events.iter().map(|event| dying(event)).collect();
    owner.commit(&commit);
    let dying = db.wait(owner.store.deliveries().dying(9)).unwrap();
    let ids = db.wait(owner.store.letters().record(&dying)).unwrap();
    for id in &ids[..4] {
        db.wait(owner.store.letters().discard(*id)).unwrap();
    }
    let kept = |owner: &Owner| db.wait(owner.store.retention().kept()).unwrap().dead_letters;
    let all = kept(&owner);
    let plan = RetentionPlan { letters_bytes: Some(all * 3 / 4), ..RetentionPlan::default() };
    apply(&db, &owner, &plan);
    assert!(kept(&owner) <= all * 3 / 4 && kept(&owner) >= all / 2, "{} of {all}", kept(&owner));
    let none = RetentionPlan { letters_bytes: Some(0), ..RetentionPlan::default() };
    apply(&db, &owner, &none);
    let left = db.wait(owner.store.letters().page(&Default::default(), None, 9)).unwrap().letters;
    let mut left: Vec<_> = left.into_iter().map(|letter| letter.id).collect();
    let mut dead = ids[4..].to_vec();
    left.sort_unstable();
    dead.sort_unstable();
    assert_eq!(left, dead, "a dead one never goes for its size");
}

fn keys_may_outlive_their_events(db: Db) {
    let mut owner = db.claim();
    let events = owner.with_events((0..4).map(|n| event("a", Some(&n.to_string()), "{}")));
    owner.commit(&events);
    apply(&db, &owner, &everything(4));
    assert!(left(&db, &owner).is_empty());
    let keys: Vec<_> = events.keys.iter().map(|(key, _)| *key).collect();
    let forget = events.events[2].accepted_at;
    let known = owner.journal.known(&keys, forget).unwrap();
    let known: Vec<bool> = known.iter().map(Option::is_some).collect();
    assert_eq!(known, [false, false, true, true]);
}

/// Enough keys for two sealed segments, a tail, and some events that stay.
fn sealed_keys_are_found_and_forgotten(db: Db) {
    const SEGMENT: u64 = 65_536;
    let mut owner = db.claim();
    let mut keys = Vec::new();
    for part in 0..5 {
        let ids = (0..SEGMENT / 2).map(|n| format!("{part}/{n}"));
        let commit = owner.with_events(ids.map(|id| event("a", Some(&id), "{}")));
        keys.extend(commit.keys.iter().map(|(key, index)| (*key, commit.events[*index].clone())));
        owner.commit(&commit);
    }
    let find = |owner: &mut Owner, forget: Millis| {
        let wanted: Vec<_> = keys.iter().map(|(key, _)| *key).step_by(97).collect();
        let found = owner.journal.known(&wanted, forget).unwrap();
        let events = keys.iter().map(|(_, event)| event).step_by(97);
        events
            .zip(found)
            .filter(|(event, known)| {
                assert!(known.is_none_or(|known| known.uid == event.uid));
                known.is_some()
            })
            .count()
    };
    let all = keys.len().div_ceil(97);
    let always = Millis(i64::MIN);
    assert_eq!(find(&mut owner, always), all);
    let mut stranger = keys[0].0;
    stranger.key[9] ^= 1;
    assert_eq!(owner.journal.known(&[stranger], always).unwrap(), [None]);
    // Another process knows as much, and so does a reader of the store.
    owner.journal.release().unwrap();
    drop(owner);
    let mut owner = db.claim();
    assert_eq!(find(&mut owner, always), all);
    for (_, event) in [&keys[0], keys.last().unwrap()] {
        let id = event.envelope.id.as_deref().unwrap();
        let found = db.wait(owner.store.events().find_by_id("/tests", id)).unwrap();
        assert_eq!(found.unwrap().uid, event.uid);
    }

    // Nothing is forgotten while it is stored, however old it is.
    let far = Millis(i64::MAX);
    assert_eq!(owner.journal.forget(far).unwrap(), 0);
    // All but the first event and every thousandth of the second segment.
    db.tamper(&format!(
        "DELETE FROM events WHERE seq > 1 AND (seq <= {SEGMENT} OR seq % 1000 <> 0)"
    ));
    let young = keys[SEGMENT as usize].1.accepted_at;
    assert_eq!(owner.journal.forget(young).unwrap(), SEGMENT - 1, "the first segment but one key");
    assert_eq!(owner.journal.forget(young).unwrap(), 0);
    assert_eq!(find(&mut owner, always), 1 + all - (SEGMENT as usize).div_ceil(97));
    assert!(owner.journal.forget(far).unwrap() > SEGMENT - 100);
    assert!(owner.journal.known(&[keys[0].0], far).unwrap()[0].is_some());
    let id = keys[0].1.envelope.id.as_deref().unwrap();
    assert!(db.wait(owner.store.events().find_by_id("/tests", id)).unwrap().is_some());
    drop(owner);
    let mut again = db.claim();
    assert!(again.journal.known(&[keys[0].0], far).unwrap()[0].is_some());
    assert!(again.journal.known(&[keys[1].0], always).unwrap()[0].is_none());
}

fn a_forgotten_key_may_be_taken_again(db: Db) {
    let mut owner = db.claim();
    let first = owner.with_events([event("a", Some("1"), "{}")]);
    owner.commit(&first);
    db.tamper("DELETE FROM events");
    let key = first.keys[0].0;
    assert_eq!(owner.journal.known(&[key], Millis(i64::MAX)).unwrap(), [None]);
    let second = owner.with_events([event("a", Some("1"), "{}")]);
    owner.commit(&second);
    for _ in 0..2 {
        let known = owner.journal.known(&[key], Millis(i64::MIN)).unwrap();
        assert_eq!(known[0].unwrap().uid, second.events[0].uid, "the later one counts");
        let stored = db.wait(owner.store.events().find_by_id("/tests", "1")).unwrap();
        assert_eq!(stored.unwrap().uid, second.events[0].uid);
        drop(owner);
        owner = db.claim();
    }
}
