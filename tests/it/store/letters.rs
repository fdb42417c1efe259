//! Dead letters: made, found, replayed, discarded, restored, and in bulk.

use tripline::{
    domain::{BulkId, ErrorKind, Event, Millis, RunError, ScriptId, Seq, SubscriptionId},
    store::{
        BulkAction, BulkOperation, BulkState, Error, LetterFilter, LetterStatus,
        journal::{DeliveryRow, RowStatus, SubscriptionChange},
    },
};

use super::support::{Db, Owner, create, delivery, event, on_both, script};

on_both!(
    a_dying_row_becomes_a_letter_once,
    a_replay_takes_the_letter_and_its_failure_brings_it_back,
    a_replay_that_succeeds_ends_the_letter,
    an_edited_payload_stays_with_the_letter,
    only_the_dead_are_replayed_or_discarded,
    a_letter_of_a_deleted_subscription_cannot_be_replayed,
    letters_are_found_by_each_filter,
    errors_are_grouped_with_true_counts,
    pages_neither_skip_nor_repeat,
    kept_counts_follow_every_change,
    a_search_looks_at_a_bounded_number_of_letters,
    a_bulk_replay_takes_each_letter_once,
    a_bulk_operation_is_remembered,
    a_bulk_discard_is_undone_without_those_that_others_discarded,
);

const DISCARD: BulkAction = BulkAction::Discard;

struct Dead {
    owner: Owner,
    subscription: SubscriptionId,
    script: ScriptId,
    events: Vec<std::sync::Arc<Event>>,
}

/// A store whose subscription `pay` has letters of these errors, one event each.
fn with_letters(db: &Db, errors: &[(ErrorKind, &str)]) -> Dead {
    let mut owner = db.claim();
    let script = script(db, &owner.store, "s").id;
    let (subscription, change) = create("pay", "order.*", script, 1);
    let types = ["order.paid", "order.sent"];
    let new = (0..errors.len()).map(|n| event(types[n % 2], None, "{\"n\":1}"));
    let mut commit = owner.with_events(new);
    commit.changes = vec![change];
    commit.rows = errors
        .iter()
        .zip(&commit.events)
        .map(|((kind, message), event)| dying(event, subscription, *kind, message))
        .collect();
    owner.commit(&commit);
    let rows = db.wait(owner.store.deliveries().dying(1_000)).unwrap();
    let ids = db.wait(owner.store.letters().record(&rows)).unwrap();
    assert_eq!(ids.len(), errors.len());
    Dead { owner, subscription, script, events: commit.events }
}

fn dying(
    event: &Event,
    subscription: SubscriptionId,
    kind: ErrorKind,
    message: &str,
) -> DeliveryRow {
    let mut row = delivery(event, subscription, RowStatus::Dying, 0);
    row.attempts = 3;
    row.error = Some(RunError { kind, message: message.into(), stack: Some("at s.ts:1:1".into()) });
    row
}

const FAILED: (ErrorKind, &str) = (ErrorKind::Exception, "no order 7");

fn all() -> LetterFilter {
    LetterFilter::default()
}

fn a_dying_row_becomes_a_letter_once(db: Db) {
    let dead = with_letters(&db, &[FAILED]);
    let letters = dead.owner.store.letters();
    let found = db.wait(letters.page(&all(), None, 10)).unwrap().letters;
    let letter = &found[0];
    assert_eq!(letter.status, LetterStatus::Dead);
    assert_eq!(letter.subscription_name, "pay");
    assert_eq!(letter.script, dead.script);
    assert_eq!(letter.event, dead.events[0].uid);
    assert_eq!(letter.event_type, "order.paid");
    assert_eq!((letter.attempts, letter.replays), (3, 0));
    assert_eq!(letter.error.message, "no order 7");
    assert!(db.wait(dead.owner.store.deliveries().dying(10)).unwrap().is_empty());
    // A crash between the two would record the row again: it is the same letter.
    let row = dying(&dead.events[0], dead.subscription, FAILED.0, FAILED.1);
    assert_eq!(db.wait(letters.record(&[row])).unwrap(), [letter.id]);
    assert_eq!(db.wait(letters.count(&all())).unwrap().count, 1);
    let of_event = db.wait(letters.of_events(&[dead.events[0].uid])).unwrap();
    assert_eq!(of_event, [(dead.events[0].uid, dead.subscription, LetterStatus::Dead)]);
}

fn a_replay_takes_the_letter_and_its_failure_brings_it_back(db: Db) {
    let mut dead = with_letters(&db, &[FAILED]);
    let before =
        db.wait(dead.owner.store.letters().page(&all(), None, 1)).unwrap().letters.remove(0);
    let row = db.wait(dead.owner.store.letters().start_replay(before.id, None, Some(4))).unwrap();
    assert_eq!((row.status, row.attempts, row.replay), (RowStatus::Pending, 0, 1));
    assert_eq!((row.letter, row.pinned_version), (Some(before.id), Some(4)));
    assert_eq!(
        db.wait(dead.owner.store.deliveries().waiting(None, 9)).unwrap(),
        std::slice::from_ref(&row)
    );
    let now = db.wait(dead.owner.store.letters().find(before.id)).unwrap().unwrap();
    assert_eq!(now.status, LetterStatus::Replaying);

    let mut failed = dying(&dead.events[0], dead.subscription, ErrorKind::Timeout, "too slow");
    failed.letter = row.letter;
    failed.replay = row.replay;
    let mut commit = dead.owner.next();
    commit.rows = vec![failed.clone()];
    dead.owner.commit(&commit);
    db.wait(dead.owner.store.letters().record(&[failed])).unwrap();
    let after = db.wait(dead.owner.store.letters().find(before.id)).unwrap().unwrap();
    assert_eq!((after.status, after.replays), (LetterStatus::Dead, 1));
    assert_eq!(after.error.kind, ErrorKind::Timeout);
    assert_eq!(after.first_failed_at, before.first_failed_at, "one letter, one history");
    assert!(after.revision > before.revision);
}

fn a_replay_that_succeeds_ends_the_letter(db: Db) {
    let mut dead = with_letters(&db, &[FAILED]);
    let id = db.wait(dead.owner.store.letters().page(&all(), None, 1)).unwrap().letters[0].id;
    let row = db.wait(dead.owner.store.letters().start_replay(id, None, None)).unwrap();
    let mut commit = dead.owner.next();
    commit.letters_replayed = vec![id];
    commit.rows_done = vec![row.id];
    dead.owner.commit(&commit);
    let letter = db.wait(dead.owner.store.letters().find(id)).unwrap().unwrap();
    assert_eq!(letter.status, LetterStatus::Replayed);
    let again = db.wait(dead.owner.store.letters().start_replay(id, None, None));
    assert!(matches!(again, Err(Error::NotDead { status: "replayed" })), "{again:?}");
}

fn an_edited_payload_stays_with_the_letter(db: Db) {
    let dead = with_letters(&db, &[FAILED]);
    let letters = dead.owner.store.letters();
    let id = db.wait(letters.page(&all(), None, 1)).unwrap().letters[0].id;
    let row = db.wait(letters.start_replay(id, Some("{\"n\":2}"), None)).unwrap();
    assert_eq!(row.data.as_deref(), Some("{\"n\":2}"));
    let mut failed = DeliveryRow { status: RowStatus::Dying, ..row };
    failed.error = Some(RunError { kind: FAILED.0, message: FAILED.1.into(), stack: None });
    db.wait(letters.record(&[failed])).unwrap();
    let again = db.wait(letters.start_replay(id, None, None)).unwrap();
    assert_eq!((again.data.as_deref(), again.replay), (Some("{\"n\":2}"), 2));
}

fn only_the_dead_are_replayed_or_discarded(db: Db) {
    let dead = with_letters(&db, &[FAILED]);
    let letters = dead.owner.store.letters();
    let id = db.wait(letters.page(&all(), None, 1)).unwrap().letters[0].id;
    let restored = db.wait(letters.restore(id));
    assert!(matches!(restored, Err(Error::NotDead { status: "dead" })), "{restored:?}");
    db.wait(letters.discard(id)).unwrap();
    assert!(db.wait(letters.find(id)).unwrap().unwrap().discarded_at.is_some());
    assert!(matches!(db.wait(letters.discard(id)), Err(Error::NotDead { status: "discarded" })));
    assert!(matches!(
        db.wait(letters.start_replay(id, None, None)),
        Err(Error::NotDead { status: "discarded" })
    ));
    db.wait(letters.restore(id)).unwrap();
    let back = db.wait(letters.find(id)).unwrap().unwrap();
    assert_eq!((back.status, back.discarded_at), (LetterStatus::Dead, None));
    let stranger = tripline::domain::LetterId::fresh();
    assert!(matches!(db.wait(letters.discard(stranger)), Err(Error::NotFound { .. })));
}

fn a_letter_of_a_deleted_subscription_cannot_be_replayed(db: Db) {
    let mut dead = with_letters(&db, &[FAILED]);
    let mut commit = dead.owner.next();
    let id = dead.subscription;
    commit.changes = vec![SubscriptionChange::Delete { id, from: Seq(2), at: Millis(1) }];
    dead.owner.commit(&commit);
    let letters = dead.owner.store.letters();
    let letter = db.wait(letters.page(&all(), None, 1)).unwrap().letters.remove(0);
    let refused = db.wait(letters.start_replay(letter.id, None, None));
    assert!(matches!(refused, Err(Error::NotFound { what: "subscription", .. })), "{refused:?}");
    // In bulk it is passed over, and not offered again, or the operation would never end.
    let began = Millis::now().plus(std::time::Duration::from_millis(1));
    let began = began.max(Millis(letter.died_at.0 + 1));
    let rows = db.wait(letters.start_replays(&[letter.id], false, BulkId::fresh())).unwrap();
    assert!(rows.is_empty());
    let skipped = Millis(letter.died_at.0 + 1).min(began);
    assert!(db.wait(letters.matching(DISCARD, &all(), skipped, None, 9)).unwrap().0.is_empty());
    let later = Millis::now().plus(std::time::Duration::from_secs(5));
    assert_eq!(db.wait(letters.matching(DISCARD, &all(), later, None, 9)).unwrap().0, [letter.id]);
    db.wait(letters.discard_many(&[letter.id], BulkId::fresh())).unwrap();
    let status = db.wait(letters.find(letter.id)).unwrap().unwrap().status;
    assert_eq!(status, LetterStatus::Discarded);
}

fn letters_are_found_by_each_filter(db: Db) {
    let dead = with_letters(
        &db,
        &[
            (ErrorKind::Exception, "No order 7"),
            (ErrorKind::Timeout, "took too long"),
            (ErrorKind::Exception, "100% wrong_"),
        ],
    );
    let letters = dead.owner.store.letters();
    let count = |filter: LetterFilter| db.wait(letters.count(&filter)).unwrap().count;
    assert_eq!(count(all()), 3);
    assert_eq!(count(LetterFilter { subscription_id: Some(dead.subscription), ..all() }), 3);
    assert_eq!(count(LetterFilter { subscription_id: Some(SubscriptionId::fresh()), ..all() }), 0);
    assert_eq!(count(LetterFilter { script_id: Some(dead.script), ..all() }), 3);
    assert_eq!(count(LetterFilter { error_kind: Some(ErrorKind::Timeout), ..all() }), 1);
    assert_eq!(count(LetterFilter { event_type: Some("order.paid".into()), ..all() }), 2);
    assert_eq!(count(LetterFilter { event_type: Some("order.*".into()), ..all() }), 3);
    assert_eq!(count(LetterFilter { event_type: Some("*.sent".into()), ..all() }), 1);
    assert_eq!(count(LetterFilter { event_type: Some("payment.**".into()), ..all() }), 0);
    assert_eq!(count(LetterFilter { event_id: Some(dead.events[1].uid), ..all() }), 1);
    assert_eq!(count(LetterFilter { text: Some("no ORDER".into()), ..all() }), 1);
    // The text is no pattern.
    assert_eq!(count(LetterFilter { text: Some("%".into()), ..all() }), 1);
    assert_eq!(count(LetterFilter { text: Some("g_".into()), ..all() }), 1);
    assert_eq!(count(LetterFilter { text: Some("took_too".into()), ..all() }), 0);
    assert_eq!(count(LetterFilter { status: Some(LetterStatus::Discarded), ..all() }), 0);
    assert_eq!(count(LetterFilter { from: Some(Millis(0)), until: Some(Millis(1)), ..all() }), 0);
    assert_eq!(db.wait(letters.dead_counts()).unwrap(), [(dead.subscription, 3)]);
}

fn errors_are_grouped_with_true_counts(db: Db) {
    let dead = with_letters(
        &db,
        &[
            (ErrorKind::Exception, "no order 7"),
            (ErrorKind::Timeout, "too slow"),
            (ErrorKind::Exception, "no order 8"),
            (ErrorKind::Exception, "no order 9"),
        ],
    );
    let letters = dead.owner.store.letters();
    let groups = db.wait(letters.groups(&all(), 1)).unwrap().0;
    assert_eq!(groups.len(), 1);
    assert_eq!((groups[0].count, groups[0].error_kind), (3, ErrorKind::Exception));
    let of_group = LetterFilter { fingerprint: Some(groups[0].fingerprint.clone()), ..all() };
    assert_eq!(db.wait(letters.count(&of_group)).unwrap().count, 3);
}

fn pages_neither_skip_nor_repeat(db: Db) {
    // All of one commit die in the same millisecond, or nearly.
    let dead = with_letters(&db, &[FAILED; 7]);
    let letters = dead.owner.store.letters();
    let (mut seen, mut before) = (Vec::new(), None);
    loop {
        let page = db.wait(letters.page(&all(), before, 3)).unwrap().letters;
        let Some(last) = page.last() else { break };
        before = Some((last.died_at, last.id));
        seen.extend(page.iter().map(|letter| letter.id));
    }
    assert_eq!(seen.len(), 7);
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 7);
}

/// What triggers count is what is there: the same question with a time is answered by reading.
fn kept_counts_follow_every_change(db: Db) {
    let errors =
        [FAILED, (ErrorKind::Timeout, "too slow"), FAILED, (ErrorKind::Exception, "other")];
    let dead = with_letters(&db, &errors);
    let letters = dead.owner.store.letters();
    let check = |after: &str| {
        let kept = [None, Some(LetterStatus::Dead), Some(LetterStatus::Replaying)]
            .into_iter()
            .chain([Some(LetterStatus::Replayed), Some(LetterStatus::Discarded)]);
        for status in kept {
            for kind in [None, Some(ErrorKind::Timeout), Some(ErrorKind::Exception)] {
                let filter = LetterFilter { status, error_kind: kind, ..all() };
                let read = LetterFilter { from: Some(Millis(0)), ..filter.clone() };
                let counts = [&filter, &read].map(|f| db.wait(letters.count(f)).unwrap());
                assert_eq!(counts[0], counts[1], "{status:?} {kind:?} after {after}");
                let groups = [&filter, &read].map(|f| db.wait(letters.groups(f, 9)).unwrap());
                let told = groups.map(|(groups, exact)| {
                    assert!(exact);
                    let tell =
                        |g: tripline::store::LetterGroup| (g.fingerprint, g.count, g.scripts);
                    groups.into_iter().map(tell).collect::<Vec<_>>()
                });
                assert_eq!(told[0], told[1], "{status:?} {kind:?} after {after}");
            }
        }
    };
    check("death");
    let ids: Vec<_> = db.wait(letters.page(&all(), None, 9)).unwrap().letters;
    let ids: Vec<_> = ids.into_iter().map(|letter| letter.id).collect();
    db.wait(letters.discard(ids[0])).unwrap();
    db.wait(letters.discard_many(&ids[1..3], BulkId::fresh())).unwrap();
    check("discards");
    db.wait(letters.restore(ids[1])).unwrap();
    let row = db.wait(letters.start_replay(ids[3], Some("{}"), None)).unwrap();
    check("a restore and a replay");
    let error = RunError { kind: ErrorKind::Timeout, message: "other".into(), stack: None };
    let failed = DeliveryRow { status: RowStatus::Dying, error: Some(error), ..row };
    db.wait(letters.record(&[failed])).unwrap();
    check("a replay that failed differently");
    db.tamper("DELETE FROM dead_letters WHERE status = 'discarded'");
    check("a deletion");
    assert_eq!(db.wait(letters.count(&all())).unwrap().count, 2);
}

fn a_search_looks_at_a_bounded_number_of_letters(db: Db) {
    const MORE: usize = 25_000;
    let dead = with_letters(&db, &[(ErrorKind::Exception, "a needle")]);
    let fresh = if db.url.starts_with("sqlite") { "randomblob(16)" } else { "gen_random_uuid()" };
    db.tamper(&format!(
        "INSERT INTO dead_letters (id, delivery, status, subscription, subscription_name, script,
         script_version, event, seq, event_type, error_kind, error_message, fingerprint, attempts,
         first_failed_at, died_at, replays, revision)
         WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {MORE})
         SELECT {fresh}, {fresh}, status, subscription, subscription_name, script, script_version,
         event, seq, event_type, error_kind, 'hay', 'hay', attempts, first_failed_at, died_at + i,
         replays, revision FROM dead_letters, n"
    ));
    let letters = dead.owner.store.letters();
    let counted = db.wait(letters.count(&all())).unwrap();
    assert_eq!((counted.count, counted.exact), (1 + MORE as u64, true));
    let needle = LetterFilter { text: Some("NEEDLE".into()), ..all() };
    assert!(!db.wait(letters.count(&needle)).unwrap().exact, "that would take reading them all");
    let (mut found, mut before, mut pages) = (Vec::new(), None, 0);
    loop {
        let page = db.wait(letters.page(&needle, before, 10)).unwrap();
        pages += 1;
        found.extend(page.letters);
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    assert_eq!((found.len(), pages), (1, 2));
    // What the kept groups lead to is found at once.
    let print = LetterFilter { fingerprint: Some(found[0].fingerprint.clone()), ..all() };
    let page = db.wait(letters.page(&print, None, 10)).unwrap();
    assert_eq!((page.letters.len(), page.next), (1, None));
    // A bulk operation passes over the hay once, and takes the needle.
    let later = Millis::now().plus(std::time::Duration::from_secs(3_600));
    let (mut taken, mut after, mut looks) = (Vec::new(), None, 0);
    loop {
        let (ids, next) = db.wait(letters.matching(DISCARD, &needle, later, after, 10)).unwrap();
        taken.extend(ids);
        (after, looks) = (next, looks + 1);
        if after.is_none() {
            break;
        }
    }
    assert_eq!((taken.len(), looks), (1, 2));
}

fn a_bulk_replay_takes_each_letter_once(db: Db) {
    let dead = with_letters(&db, &[FAILED; 5]);
    let letters = dead.owner.store.letters();
    let began = Millis::now().plus(std::time::Duration::from_secs(1));
    assert_eq!(db.wait(letters.count_matching(DISCARD, &all())).unwrap().count, 5);
    let earlier = db.wait(letters.matching(DISCARD, &all(), Millis(1), None, 9)).unwrap();
    assert!(earlier.0.is_empty(), "they died later");
    let bulk = BulkId::fresh();
    let mut taken = 0;
    loop {
        let ids = db.wait(letters.matching(DISCARD, &all(), began, None, 2)).unwrap().0;
        if ids.is_empty() {
            break;
        }
        let rows = db.wait(letters.start_replays(&ids, true, bulk)).unwrap();
        assert!(rows.iter().all(|row| row.bulk == Some(bulk) && row.pinned_version == Some(1)));
        assert_eq!(rows.len(), ids.len());
        taken += rows.len();
        // A slice that is taken again after a crash takes nothing.
        assert!(db.wait(letters.start_replays(&ids, true, bulk)).unwrap().is_empty());
    }
    assert_eq!(taken, 5);
    assert_eq!(db.wait(dead.owner.store.deliveries().count_of(dead.subscription)).unwrap(), 5);
}

fn a_bulk_discard_is_undone_without_those_that_others_discarded(db: Db) {
    let dead = with_letters(&db, &[FAILED; 4]);
    let letters = dead.owner.store.letters();
    let later = Millis::now().plus(std::time::Duration::from_secs(1));
    let ids = db.wait(letters.matching(DISCARD, &all(), later, None, 9)).unwrap().0;
    let bulk = BulkId::fresh();
    db.wait(letters.discard(ids[0])).unwrap();
    db.wait(letters.discard_many(&ids[1..3], bulk)).unwrap();
    let of_bulk = LetterFilter { discarded_by: Some(bulk), ..all() };
    let restore = |before| {
        db.wait(letters.matching(BulkAction::Restore, &of_bulk, before, None, 9)).unwrap().0
    };
    assert!(restore(Millis(1)).is_empty(), "they were discarded later");
    let mut undone = restore(later);
    undone.sort_unstable();
    let mut expected = ids[1..3].to_vec();
    expected.sort_unstable();
    assert_eq!(undone, expected);
    db.wait(letters.restore_many(&ids, BulkId::fresh())).unwrap();
    assert_eq!(
        db.wait(letters.count(&of_bulk)).unwrap().count,
        0,
        "they forget who discarded them"
    );
    let dead = LetterFilter { status: Some(LetterStatus::Dead), ..all() };
    assert_eq!(db.wait(letters.count(&dead)).unwrap().count, 4);
}

fn a_bulk_operation_is_remembered(db: Db) {
    let dead = with_letters(&db, &[FAILED; 2]);
    let (bulk, letters) = (dead.owner.store.bulk(), dead.owner.store.letters());
    let operation = BulkOperation {
        id: BulkId::fresh(),
        action: BulkAction::Replay { pinned_original: true },
        filter: LetterFilter { text: Some("x".into()), event_type: Some("a.*".into()), ..all() },
        rate: Some(50),
        total: 12,
        done: 0,
        state: BulkState::Running,
        created_at: Millis(1_000),
        finished_at: None,
    };
    db.wait(bulk.create(&operation)).unwrap();
    assert_eq!(db.wait(bulk.unfinished()).unwrap(), std::slice::from_ref(&operation));
    let later = Millis::now().plus(std::time::Duration::from_secs(1));
    let ids = db.wait(letters.matching(DISCARD, &all(), later, None, 9)).unwrap().0;
    for _ in 0..2 {
        // The second time there is nothing to take, and so nothing to count.
        db.wait(letters.discard_many(&ids, operation.id)).unwrap();
    }
    db.wait(bulk.finish(operation.id, BulkState::Aborted, Millis(2_000), None)).unwrap();
    db.wait(bulk.finish(operation.id, BulkState::Done, Millis(3_000), None)).unwrap();
    let ended = db.wait(bulk.get(operation.id)).unwrap().unwrap();
    assert_eq!((ended.done, ended.state), (2, BulkState::Aborted));
    assert_eq!(ended.finished_at, Some(Millis(2_000)));
    assert!(db.wait(bulk.unfinished()).unwrap().is_empty());
    assert_eq!(db.wait(bulk.recent(5)).unwrap(), [ended]);
}
