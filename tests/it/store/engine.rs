//! What the engine reads: events, outcomes, deliveries, definitions.

use tripline::{
    domain::{
        Cause, DataEncoding, ErrorKind, Event, EventId, Lineage, LogLevel, LogLine, Millis,
        RunError, ScheduledId, ScriptId, Seq, SubscriptionId, block::Outcome,
    },
    store::journal::{DeliveryRow, LateRange, RowStatus, Scheduled, SubscriptionChange},
};

use super::support::{
    Db, create, definition, delivery, entry, event, on_both, run, script, with_block,
};

on_both!(
    an_event_comes_back_byte_for_byte,
    a_range_stops_at_its_bytes_but_gives_one_event,
    events_are_found_by_what_publishers_call_them,
    a_forged_uid_finds_nothing,
    times_lead_to_seqs,
    fresh_outcomes_are_those_above_the_watermark,
    outcomes_of_one_event_are_found_fresh_and_late,
    waiting_rows_come_soonest_first_and_dying_ones_apart,
    a_row_is_replaced_and_removed,
    a_delayed_emit_waits_whole,
    a_run_comes_back_whole,
    nul_in_an_error_is_replaced,
    old_events_meet_old_definitions,
    a_taken_name_refuses_the_change,
    a_change_of_a_missing_subscription_is_refused,
    a_deleted_subscription_leaves_its_rows_to_be_settled,
    a_recovered_store_forgets_its_unclean_stops,
);

fn an_event_comes_back_byte_for_byte(db: Db) {
    let mut owner = db.claim();
    // Numbers beyond doubles, odd spacing, duplicate keys, every script: kept as received.
    let payload = "{ \"n\":123456789012345678901234567890.10e-5 ,\"n\":1,\"s\":\"\\u0041\\ud83d\\ude00é☃\"\n}";
    let mut new = event("order.paid", Some("id-☃"), payload);
    new.envelope.subject = Some("a/b".into());
    new.envelope.time = Some("2026-01-31T12:00:00.123456789+01:00".into());
    new.envelope.datacontenttype = Some("application/json; charset=utf-8".into());
    new.envelope.dataschema = Some("https://example.com/schema".into());
    new.envelope.extensions = Some("{\"traceparent\":\"00-1\",\"n\":9007199254740993}".into());
    new.envelope.encoding = DataEncoding::Base64;
    new.lineage = Lineage {
        cause: Some(Cause { event: EventId::fresh(), subscription: SubscriptionId::fresh() }),
        hop: 3,
        spread: 1 << 60,
    };
    let commit = owner.with_events([new]);
    owner.commit(&commit);
    let stored = db.wait(owner.store.events().find(commit.events[0].uid)).unwrap().unwrap();
    assert_eq!(stored, *commit.events[0]);
    assert_eq!(stored.data, payload.as_bytes());
    let intact = || {
        let looked = db.wait(owner.store.checked_events(Seq(0), 10)).unwrap();
        looked.into_iter().map(|(seq, read)| (seq.0, read.is_ok())).collect::<Vec<_>>()
    };
    assert_eq!(intact(), [(1, true)]);
    db.tamper("UPDATE events SET dataschema = 'https://example.com/other'");
    assert_eq!(intact(), [(1, false)]);
}

fn a_range_stops_at_its_bytes_but_gives_one_event(db: Db) {
    let mut owner = db.claim();
    let commit = owner.with_events((0..10).map(|n| event("a", None, &"9".repeat(100 * (n + 1)))));
    owner.commit(&commit);
    let seqs = |after, limit, bytes| {
        let events = db.wait(owner.store.events().range(Seq(after), limit, bytes)).unwrap();
        events.iter().map(|event| event.seq.0).collect::<Vec<_>>()
    };
    assert_eq!(seqs(0, 100, 1 << 20), (1..=10).collect::<Vec<_>>());
    assert_eq!(seqs(4, 3, 1 << 20), [5, 6, 7]);
    assert_eq!(seqs(0, 100, 350), [1, 2]);
    assert_eq!(seqs(9, 100, 1), [10], "one event, however large");
    assert_eq!(seqs(10, 100, 1), Vec::<u64>::new());
    let at = db.wait(owner.store.events().at(&[Seq(9), Seq(77), Seq(2)])).unwrap();
    assert_eq!(at.iter().map(|event| event.seq.0).collect::<Vec<_>>(), [2, 9]);
}

fn events_are_found_by_what_publishers_call_them(db: Db) {
    let mut owner = db.claim();
    let commit = owner.with_events([event("a", Some("42"), "{}"), event("a", None, "{}")]);
    owner.commit(&commit);
    let find = |source: &str, id: &str| {
        let found = db.wait(owner.store.events().find_by_id(source, id)).unwrap();
        found.map(|event: Event| event.seq.0)
    };
    assert_eq!(find("/tests", "42"), Some(1));
    assert_eq!(find("/other", "42"), None);
    assert_eq!(find("/tests", &commit.events[1].uid.to_string()), Some(2));
    assert_eq!(find("/tests", &commit.events[0].uid.to_string()), None);
}

fn a_forged_uid_finds_nothing(db: Db) {
    let mut owner = db.claim();
    let commit = owner.with_events([event("a", None, "{}")]);
    owner.commit(&commit);
    let forged = EventId::numbered(Millis(5), Seq(1), 0);
    assert_eq!(db.wait(owner.store.events().find(forged)).unwrap(), None);
}

fn times_lead_to_seqs(db: Db) {
    let mut owner = db.claim();
    let at = |time: i64| db.wait(owner.store.events().at_or_after(Millis(time))).unwrap();
    assert_eq!(at(0), Seq(1), "an empty store begins with the next event");
    let commit = owner.with_events((0..20).map(|_| event("a", None, "{}")));
    owner.commit(&commit);
    // Acceptance times are base + seq.
    let base = 1_790_000_000_000;
    db.tamper("DELETE FROM events WHERE seq BETWEEN 5 AND 12");
    let at = |time: i64| db.wait(owner.store.events().at_or_after(Millis(time))).unwrap().0;
    assert_eq!(at(0), 1);
    assert_eq!(at(base + 4), 4);
    assert!((5..=13).contains(&at(base + 6)));
    assert_eq!(at(base + 20), 20);
    assert_eq!(at(base + 21), 21);
}

fn fresh_outcomes_are_those_above_the_watermark(db: Db) {
    let mut owner = db.claim();
    let a = SubscriptionId::fresh();
    let events = owner.with_events((0..6).map(|_| event("a", None, "{}")));
    owner.commit(&events);
    let done = |seq| entry(seq, a, Outcome::Succeeded, None);
    let commit = with_block(owner.next(), &[done(1), done(2), done(5)], 2);
    owner.commit(&commit);
    let commit = with_block(owner.next(), &[done(4)], 2);
    owner.commit(&commit);
    let fresh = db.wait(owner.store.outcomes().fresh_after(Seq(2))).unwrap();
    assert_eq!(fresh.iter().map(|entry| entry.seq.0).collect::<Vec<_>>(), [5, 4]);
    assert_eq!(
        db.wait(owner.store.outcomes().settled_of(a, Seq(2))).unwrap(),
        [Seq(2), Seq(4), Seq(5)]
    );
}

fn outcomes_of_one_event_are_found_fresh_and_late(db: Db) {
    let mut owner = db.claim();
    let (a, b) = (SubscriptionId::fresh(), SubscriptionId::fresh());
    let events = owner.with_events((0..3).map(|_| event("a", None, "{}")));
    owner.commit(&events);
    let first = [
        entry(1, a, Outcome::Retrying, Some(1)),
        entry(2, a, Outcome::Succeeded, Some(2)),
        entry(1, b, Outcome::Succeeded, None),
    ];
    let commit = with_block(owner.next(), &first, 3);
    owner.commit(&commit);
    for _ in 0..5 {
        let more = owner.with_events([event("a", None, "{}")]);
        let seq = more.seq.0;
        let commit = with_block(more, &[entry(seq, b, Outcome::Succeeded, None)], seq);
        owner.commit(&commit);
    }
    let mut late = with_block(
        owner.next(),
        &[entry(1, a, Outcome::Succeeded, Some(9)), entry(2, b, Outcome::Noted, None)],
        8,
    );
    late.late = vec![LateRange { subscription: a, min_seq: Seq(1), max_seq: Seq(1) }];
    owner.commit(&late);

    let of = |seq| db.wait(owner.store.outcomes().of_event(Seq(seq))).unwrap();
    let runs: Vec<_> = of(1).iter().map(|entry| (entry.outcome, entry.run)).collect();
    assert_eq!(
        runs,
        [(Outcome::Retrying, Some(1)), (Outcome::Succeeded, None), (Outcome::Succeeded, Some(9)),]
    );
    assert_eq!(of(2).len(), 1, "what was noted again is no outcome");
    assert_eq!(of(77), []);
    let late = db.wait(owner.store.outcomes().late_of(a, Seq(1))).unwrap();
    assert_eq!(late.len(), 1);
    assert_eq!(db.wait(owner.store.outcomes().late_of(a, Seq(2))).unwrap(), []);
    assert_eq!(db.wait(owner.store.outcomes().late_of(b, Seq(0))).unwrap(), []);
}

fn waiting_rows_come_soonest_first_and_dying_ones_apart(db: Db) {
    let mut owner = db.claim();
    let (a, b) = (SubscriptionId::fresh(), SubscriptionId::fresh());
    let events = owner.with_events((0..4).map(|_| event("a", None, "{}")));
    owner.commit(&events);
    let mut commit = owner.next();
    commit.rows = vec![
        delivery(&events.events[0], a, RowStatus::Retrying, 300),
        delivery(&events.events[1], a, RowStatus::Pending, 100),
        delivery(&events.events[2], a, RowStatus::Dying, 0),
        delivery(&events.events[3], b, RowStatus::Suspect, 200),
    ];
    owner.commit(&commit);
    let rows = owner.store.deliveries();
    let waiting = db.wait(rows.waiting(None, 10)).unwrap();
    assert_eq!(waiting.iter().map(|row| row.next_at.0).collect::<Vec<_>>(), [100, 200, 300]);
    assert_eq!(waiting[1], commit.rows[3]);
    let after = db.wait(rows.waiting(Some((waiting[0].next_at, waiting[0].id)), 1)).unwrap();
    assert_eq!(after[0].next_at.0, 200);
    assert_eq!(db.wait(rows.dying(10)).unwrap(), [commit.rows[2].clone()]);
    assert_eq!(db.wait(rows.count_of(a)).unwrap(), 3);
    assert_eq!(db.wait(rows.counts()).unwrap()[&b], 1);
    assert_eq!(db.wait(rows.of_events(&[Seq(4)])).unwrap()[0].subscription, b);
    let seqs: Vec<u64> =
        db.wait(rows.of_subscription(a)).unwrap().iter().map(|row| row.seq.0).collect();
    assert_eq!(seqs, [1, 2, 3]);
    let mut since = db.wait(rows.since(Seq(2))).unwrap();
    since.sort_unstable();
    assert_eq!(since, [(Seq(3), a), (Seq(4), b)]);
}

fn a_row_is_replaced_and_removed(db: Db) {
    let mut owner = db.claim();
    let a = SubscriptionId::fresh();
    let events = owner.with_events([event("a", None, "{}")]);
    owner.commit(&events);
    let mut commit = owner.next();
    let pending = delivery(&events.events[0], a, RowStatus::Pending, 0);
    let mut retrying = DeliveryRow { attempts: 2, ..pending.clone() };
    retrying.status = RowStatus::Retrying;
    retrying.error = Some(RunError {
        kind: ErrorKind::Timeout,
        message: "took too long".into(),
        stack: Some("at a.ts:1".into()),
    });
    // Both states in one commit: the later one stands.
    commit.rows = vec![pending, retrying.clone()];
    owner.commit(&commit);
    assert_eq!(
        db.wait(owner.store.deliveries().find(retrying.id)).unwrap(),
        Some(retrying.clone())
    );
    let mut commit = owner.next();
    commit.rows_done = vec![retrying.id];
    owner.commit(&commit);
    assert_eq!(db.wait(owner.store.deliveries().find(retrying.id)).unwrap(), None);
}

fn a_delayed_emit_waits_whole(db: Db) {
    let mut owner = db.claim();
    let mut commit = owner.next();
    let emit = |due| Scheduled {
        id: ScheduledId::fresh(),
        due_at: Millis(due),
        created_at: Millis(7),
        event: event("later", Some("x"), "[1, 2]"),
    };
    commit.scheduled = vec![emit(200), emit(100)];
    owner.commit(&commit);
    let waiting = db.wait(owner.store.scheduled().waiting(None, 10)).unwrap();
    assert_eq!(waiting, [commit.scheduled[1].clone(), commit.scheduled[0].clone()]);
    let after = (waiting[0].due_at, waiting[0].id);
    assert_eq!(db.wait(owner.store.scheduled().waiting(Some(after), 10)).unwrap().len(), 1);
    let mut commit = owner.next();
    commit.scheduled_done = vec![waiting[0].id];
    owner.commit(&commit);
    assert_eq!(db.wait(owner.store.scheduled().find(waiting[0].id)).unwrap(), None);
    assert_eq!(db.wait(owner.store.scheduled().count()).unwrap(), 1);
}

fn a_run_comes_back_whole(db: Db) {
    let mut owner = db.claim();
    let events = owner.with_events([event("a", None, "{}")]);
    owner.commit(&events);
    let mut kept = run(1, &events.events[0], SubscriptionId::fresh(), ScriptId::fresh());
    kept.logs = vec![LogLine {
        level: LogLevel::Warn,
        message: "a\nb\0c".into(),
        at: Millis(1_790_000_000_001),
    }];
    kept.warnings = vec!["a number beyond 2^53 was read".into()];
    let emitted = vec![EventId::fresh(), EventId::fresh()];
    owner.commit_runs(vec![(kept.clone(), emitted.clone())]);
    kept.emitted = emitted;
    assert_eq!(db.wait(owner.store.runs().find(kept.id)).unwrap(), Some(kept.clone()));
    assert_eq!(db.wait(owner.store.runs().by_numbers(&[1, 2])).unwrap(), [kept]);
}

fn nul_in_an_error_is_replaced(db: Db) {
    let mut owner = db.claim();
    let events = owner.with_events([event("a", None, "{}")]);
    owner.commit(&events);
    let mut kept = run(1, &events.events[0], SubscriptionId::fresh(), ScriptId::fresh());
    kept.error = Some(RunError { kind: ErrorKind::Exception, message: "a\0b".into(), stack: None });
    kept.result = None;
    let id = kept.id;
    owner.commit_runs(vec![(kept, vec![])]);
    let stored = db.wait(owner.store.runs().find(id)).unwrap().unwrap();
    assert_eq!(stored.error.unwrap().message, "a\u{fffd}b");
}

fn old_events_meet_old_definitions(db: Db) {
    let mut owner = db.claim();
    let script = script(&db, &owner.store, "s");
    let (id, change) = create("one", "a.*", script.id, 1);
    let (other, also) = create("two", "a.*", script.id, 5);
    let mut commit = owner.next();
    commit.changes = vec![change, also];
    owner.commit(&commit);
    let stored = db.wait(owner.store.subscriptions().find(id)).unwrap().unwrap();
    assert_eq!(stored.definition, definition(script.id, "a.*"));
    assert_eq!((stored.revision, stored.from_seq, stored.cursor), (1, Seq(1), None));

    for (from, pattern) in [(10, "b"), (10, "c"), (20, "d")] {
        let mut commit = owner.next();
        commit.changes = vec![SubscriptionChange::Update {
            id,
            name: "renamed".into(),
            definition: definition(script.id, pattern),
            from: Seq(from),
            at: Millis(2),
        }];
        commit.cursors = vec![(other, Some(Seq(7)))];
        owner.commit(&commit);
    }
    let definitions = |from| {
        let found = db.wait(owner.store.subscriptions().definitions_of(id, Seq(from))).unwrap();
        found
            .into_iter()
            .map(|at| (at.from.0, at.definition.event_type.to_string()))
            .collect::<Vec<_>>()
    };
    let at = |from: u64, pattern: &str| (from, pattern.to_owned());
    assert_eq!(definitions(1), [at(1, "a.*"), at(10, "c"), at(20, "d")]);
    assert_eq!(definitions(9), [at(1, "a.*"), at(10, "c"), at(20, "d")]);
    assert_eq!(definitions(10), [at(10, "c"), at(20, "d")]);
    assert_eq!(definitions(99), [at(20, "d")]);
    let now = db.wait(owner.store.subscriptions().by_name("renamed")).unwrap().unwrap();
    assert_eq!((now.revision, now.from_seq), (4, Seq(20)));
    let behind = db.wait(owner.store.subscriptions().find(other)).unwrap().unwrap();
    assert_eq!((behind.cursor, behind.revision), (Some(Seq(7)), 1));

    db.wait(owner.store.subscriptions().prune_definitions(Seq(15))).unwrap();
    assert_eq!(definitions(1), [at(10, "c"), at(20, "d")]);
}

fn a_taken_name_refuses_the_change(db: Db) {
    let mut owner = db.claim();
    let script = script(&db, &owner.store, "s");
    let (_, first) = create("same", "a.*", script.id, 1);
    let (_, second) = create("same", "a.*", script.id, 1);
    let mut commit = owner.next();
    commit.changes = vec![first];
    owner.commit(&commit);
    let mut commit = owner.next();
    commit.changes = vec![second];
    assert!(owner.try_commit(&commit).is_err());
    assert_eq!(db.wait(owner.store.subscriptions().all()).unwrap().len(), 1);
}

fn a_change_of_a_missing_subscription_is_refused(db: Db) {
    let mut owner = db.claim();
    let id = SubscriptionId::fresh();
    for change in [
        SubscriptionChange::State { id, paused: true, suspended: None, at: Millis(1) },
        SubscriptionChange::Delete { id, from: Seq(1), at: Millis(1) },
    ] {
        let mut commit = owner.next();
        commit.changes = vec![change];
        assert!(owner.try_commit(&commit).is_err());
    }
    // Nothing went wrong with the connection.
    let commit = owner.with_events([event("a", None, "{}")]);
    owner.commit(&commit);
}

fn a_deleted_subscription_leaves_its_rows_to_be_settled(db: Db) {
    let mut owner = db.claim();
    let script = script(&db, &owner.store, "s");
    let (id, change) = create("one", "a.*", script.id, 1);
    let mut commit = owner.with_events([event("a.b", None, "{}")]);
    commit.changes = vec![
        change,
        SubscriptionChange::State {
            id,
            paused: false,
            suspended: Some("broken".into()),
            at: Millis(3),
        },
    ];
    commit.rows = vec![delivery(&commit.events[0], id, RowStatus::Retrying, 5)];
    owner.commit(&commit);
    let stored = db.wait(owner.store.subscriptions().find(id)).unwrap().unwrap();
    assert_eq!(stored.suspended.as_deref(), Some("broken"));
    let mut commit = owner.next();
    commit.changes = vec![SubscriptionChange::Delete { id, from: Seq(2), at: Millis(4) }];
    owner.commit(&commit);
    assert_eq!(db.wait(owner.store.subscriptions().find(id)).unwrap(), None);
    assert!(db.wait(owner.store.subscriptions().definitions_of(id, Seq(0))).unwrap().is_empty());
    assert_eq!(db.wait(owner.store.deliveries().count_of(id)).unwrap(), 1);
}

fn a_recovered_store_forgets_its_unclean_stops(db: Db) {
    drop(db.claim());
    let mut owner = db.claim();
    assert_eq!(owner.state.unclean_stops, 1);
    let mut commit = owner.next();
    commit.recovered = true;
    owner.commit(&commit);
    drop(owner);
    assert_eq!(db.claim().state.unclean_stops, 1, "this one only");
}
