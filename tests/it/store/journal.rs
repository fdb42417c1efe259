//! Group commits: all or nothing, one owner, and where the store stands after anything.

use tripline::{
    domain::{Millis, Seq},
    store::{
        Error, Store,
        journal::{BlockRow, CommitError},
    },
};

use super::support::{Db, event, on_both};

on_both!(
    a_new_store_stands_at_zero,
    a_commit_moves_the_store_and_survives_a_clean_stop,
    an_owner_that_does_not_say_goodbye_counts_as_an_unclean_stop,
    known_keys_name_the_event_that_took_them,
    a_refused_row_undoes_its_whole_commit,
    nul_in_an_envelope_is_refused_alike,
    a_stale_owner_cannot_write,
    a_reopened_store_says_which_batch_was_the_last,
    a_batch_that_does_not_follow_is_refused,
    a_newer_schema_refuses_the_start,
    a_second_owner_is_refused,
);

fn a_new_store_stands_at_zero(db: Db) {
    let owner = db.claim();
    assert_eq!(owner.state.batch, 0);
    assert_eq!(owner.state.seq, Seq(0));
    assert_eq!(owner.state.epoch, 1);
    assert_eq!(owner.state.unclean_stops, 0);
}

fn a_commit_moves_the_store_and_survives_a_clean_stop(db: Db) {
    let mut owner = db.claim();
    let mut commit = owner.with_events((0..50).map(|n| event("order.paid", None, &n.to_string())));
    commit.watermark = Seq(20);
    commit.block = Some(BlockRow { count: 1, bytes: vec![1, 2, 3] });
    owner.commit(&commit);
    owner.journal.release().unwrap();
    drop(owner);

    let again = db.claim();
    assert_eq!(again.state.seq, Seq(50));
    assert_eq!(again.state.watermark, Seq(20));
    assert_eq!(again.state.batch, 1);
    assert_eq!(again.state.epoch, 2);
    assert_eq!(again.state.accepted_at, commit.accepted_at);
    assert_eq!(again.state.unclean_stops, 0);
}

fn an_owner_that_does_not_say_goodbye_counts_as_an_unclean_stop(db: Db) {
    for crashes in 0..3 {
        let mut owner = db.claim();
        assert_eq!(owner.state.unclean_stops, crashes);
        let commit = owner.with_events([event("order.paid", None, "1")]);
        owner.commit(&commit);
    }
    let mut owner = db.claim();
    assert_eq!(owner.state.unclean_stops, 3);
    assert_eq!(owner.state.seq, Seq(3), "what was committed outlives a crash");
    owner.journal.release().unwrap();
    drop(owner);
    assert_eq!(db.claim().state.unclean_stops, 0);
}

fn known_keys_name_the_event_that_took_them(db: Db) {
    let mut owner = db.claim();
    let commit = owner.with_events([event("a", Some("1"), "{}"), event("a", Some("2"), "{}")]);
    owner.commit(&commit);
    let keys = [commit.keys[1].0, commit.keys[0].0];
    let mut stranger = keys[0];
    stranger.key[0] ^= 1;
    let known = owner.journal.known(&[keys[0], stranger, keys[1]], Millis(0)).unwrap();
    assert_eq!(known[0].unwrap().uid, commit.events[1].uid);
    assert_eq!(known[0].unwrap().digest, keys[0].digest);
    assert_eq!(known[1], None);
    assert_eq!(known[2].unwrap().uid, commit.events[0].uid);
}

fn a_refused_row_undoes_its_whole_commit(db: Db) {
    let mut owner = db.claim();
    let first = owner.with_events([event("a", Some("1"), "{}")]);
    owner.commit(&first);
    // Two events under one seq, which no publisher can bring about.
    let mut twice = owner.with_events([event("a", Some("2"), "{}"), event("a", Some("3"), "{}")]);
    twice.events[1] = twice.events[0].clone();
    let refused = owner.try_commit(&twice);
    assert!(matches!(refused, Err(CommitError::Statement(_))), "{refused:?}");
    // The same batch number, without the offender.
    let split = owner.with_events([event("a", Some("2"), "{}")]);
    owner.commit(&split);
    assert_eq!(
        owner.journal.known(&[split.keys[0].0], Millis(0)).unwrap()[0].unwrap().uid,
        split.events[0].uid
    );
}

fn nul_in_an_envelope_is_refused_alike(db: Db) {
    let mut owner = db.claim();
    let mut bad = event("a", None, "{}");
    bad.envelope.subject = Some("a\0b".into());
    let commit = owner.with_events([bad]);
    let refused = owner.try_commit(&commit);
    assert!(matches!(refused, Err(CommitError::Statement(_))), "{refused:?}");
    let good = owner.with_events([event("a", None, "{}")]);
    owner.commit(&good);
}

fn a_stale_owner_cannot_write(db: Db) {
    let mut owner = db.claim();
    db.tamper("UPDATE journal_state SET epoch = epoch + 1");
    let commit = owner.with_events([event("a", None, "{}")]);
    let refused = owner.try_commit(&commit);
    assert!(matches!(refused, Err(CommitError::Stale { ours: 1 })), "{refused:?}");
    assert!(matches!(owner.journal.reopen(), Err(CommitError::Stale { .. })));
    assert!(owner.journal.release().is_err());
}

fn a_reopened_store_says_which_batch_was_the_last(db: Db) {
    let mut owner = db.claim();
    let commit = owner.with_events([event("a", None, "{}")]);
    owner.commit(&commit);
    // As after a lost connection: nobody knows, so the store is asked.
    let state = owner.journal.reopen().unwrap();
    assert_eq!(state.batch, 1);
    assert_eq!(state.epoch, owner.state.epoch);
    let next = owner.with_events([event("a", None, "{}")]);
    owner.commit(&next);
    assert_eq!(owner.journal.reopen().unwrap().batch, 2);
}

fn a_batch_that_does_not_follow_is_refused(db: Db) {
    let mut owner = db.claim();
    let mut commit = owner.with_events([event("a", None, "{}")]);
    commit.batch += 1;
    assert!(matches!(owner.try_commit(&commit), Err(CommitError::Unknown(_))));
    assert_eq!(owner.journal.reopen().unwrap().batch, 0);
}

fn a_newer_schema_refuses_the_start(db: Db) {
    drop(db.open());
    db.tamper(
        "INSERT INTO seaql_migrations (version, applied_at) VALUES ('m29991231_000001_future', 1)",
    );
    let Err(Error::Refused(message)) = db.wait(Store::open(&db.url)) else {
        panic!("a newer store was opened");
    };
    assert!(message.contains("m29991231_000001_future"), "{message}");
}

fn a_second_owner_is_refused(db: Db) {
    let owner = db.claim();
    // PostgreSQL gives a dead owner's session ten seconds to go away, so only SQLite is quick.
    let refused = db.wait(Store::open(&db.url));
    assert!(matches!(&refused, Err(Error::Owned(message)) if message.contains("process")));
    drop(owner);
}
