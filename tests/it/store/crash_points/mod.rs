//! Crash points: a commit that holds every kind of row fails at each of its statements in turn.
//!
//! The failures are planted in the database, by triggers. Which statements there are is read from
//! the sources of the journal: one that these tests do not meet fails them.

mod everything;
mod plant;

use std::{
    collections::BTreeSet,
    process::{Child, Command, Stdio},
};

use tripline::{domain::Millis, store::journal::CommitError};

use self::{
    everything::Prepared,
    plant::{Failure, dump, plant},
};
use super::support::{Db, Owner, event, on_both};

on_both!(
    a_commit_that_fails_at_any_statement_leaves_nothing_behind,
    a_process_killed_at_any_statement_leaves_nothing_behind,
    a_sealing_that_fails_leaves_its_commit_standing,
);

/// The end of a transaction, where a database may fail as well.
const COMMIT: &str = "COMMIT";
/// More statements than a commit of the test has: it would be one without end.
const STATEMENTS_MAX: i64 = 200;

fn a_commit_that_fails_at_any_statement_leaves_nothing_behind(db: Db) {
    let mut points = BTreeSet::new();
    for &failure in Failure::all(&db) {
        let db = db.another();
        let statements = plant::statements(&db);
        let (mut owner, prepared) = ready(&db, &statements);
        let mut met = BTreeSet::new();
        let failed = (1..STATEMENTS_MAX)
            .take_while(|&at| {
                plant(&db, at, failure);
                let told = fails(&db, &mut owner, prepared, failure);
                met.extend(told.as_deref().and_then(planted_at));
                told.is_some()
            })
            .count();
        // The others have no words; the number of points says the rest.
        if [Failure::Refused, Failure::Io].contains(&failure) {
            let commit = (!db.is_sqlite()).then(|| COMMIT.to_owned());
            assert_eq!(met, statements.into_iter().chain(commit).collect(), "{failure:?}");
        }
        points.insert(failed);
    }
    assert_eq!(points.len(), 1, "each failure meets the same points: {points:?}");
}

/// Tries the commit that holds everything. `Some`: it failed, as `failure` has to be told, nothing
/// of it is there, and the store goes on.
fn fails(db: &Db, owner: &mut Owner, prepared: Prepared, failure: Failure) -> Option<String> {
    let before = dump(db);
    let commit = prepared.everything(owner);
    let Err(error) = owner.try_commit(&commit) else {
        // Otherwise a statement that writes nothing would pass for one that was met.
        assert_ne!(before.difference(&dump(db)).len(), 0);
        return None;
    };
    let told = error.to_string();
    failure.assert_told(&error, planted_at(&told).is_some_and(|at| at == COMMIT));
    if matches!(error, CommitError::Unknown(_)) {
        assert_eq!(owner.journal.reopen().unwrap().batch, owner.state.batch, "{told}");
    }
    let left = before.difference(&dump(db));
    assert!(left.is_empty(), "{told} left {left:#?}");
    plant(db, 0, failure);
    let next = owner.with_events([event("a", None, "{}")]);
    owner.commit(&next);
    Some(told)
}

fn planted_at(told: &str) -> Option<String> {
    let (_, statement) = told.split_once("planted at ")?;
    // The driver adds where in PostgreSQL's sources it was raised.
    let statement = statement.split(" at line").next().unwrap_or_default();
    Some(statement.trim().to_owned())
}

/// A store full of what the commit changes, with a trigger at each statement.
fn ready(db: &Db, statements: &BTreeSet<String>) -> (Owner, Prepared) {
    let mut owner = db.claim();
    let prepared = Prepared::fill(db, &mut owner);
    plant::prepare(db, statements);
    (owner, prepared)
}

/// SQLite's BEGIN fails while somebody else writes, its COMMIT when a deferred constraint is broken.
#[test]
fn a_commit_that_fails_at_its_begin_or_its_end_leaves_nothing_behind() {
    let db = Db::sqlite();
    let (mut owner, prepared) = ready(&db, &plant::statements(&db));
    plant(&db, -1, Failure::Io);
    let told = fails(&db, &mut owner, prepared, Failure::Io).expect("COMMIT fails");
    assert!(told.contains("FOREIGN KEY"), "{told}");

    let before = dump(&db);
    let writer = rusqlite::Connection::open(db.file().unwrap()).unwrap();
    writer.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = owner.try_commit(&prepared.everything(&owner)).unwrap_err();
    assert!(matches!(error, CommitError::Unknown(_)), "{error:?}");
    writer.execute_batch("ROLLBACK").unwrap();
    assert_eq!(owner.journal.reopen().unwrap().batch, owner.state.batch);
    assert!(before.difference(&dump(&db)).is_empty());
    owner.commit(&prepared.everything(&owner));
}

/// Keys are sealed after their commit, in a transaction of its own, which is tried again.
fn a_sealing_that_fails_leaves_its_commit_standing(db: Db) {
    const SEGMENT: u64 = 65_536;
    let mut owner = db.claim();
    db.tamper("ALTER TABLE key_segments RENAME TO out_of_reach");
    let commit = owner.with_events((0..SEGMENT).map(|n| event("a", Some(&n.to_string()), "{}")));
    owner.commit(&commit);
    db.tamper("ALTER TABLE out_of_reach RENAME TO key_segments");
    // As the writer does with a connection that is lost.
    assert_eq!(owner.journal.reopen().unwrap().batch, commit.batch);
    let key = commit.keys[4_711].0;
    let known = |owner: &mut Owner| owner.journal.known(&[key], Millis(0)).unwrap()[0];
    assert_eq!(known(&mut owner).unwrap().uid, commit.events[4_711].uid);
    let next = owner.with_events([event("a", Some("next"), "{}")]);
    owner.commit(&next);
    let sealed = dump(&db).rows("key_segments");
    assert_eq!(sealed, 1, "with the next commit");
    assert_eq!(known(&mut owner).unwrap().uid, commit.events[4_711].uid);
}

/// Set in the process that is to die: the store's URL, and what [`Prepared`] knows.
const VICTIM_URL: &str = "TRIPLINE_TEST_VICTIM_URL";
const VICTIM: &str = "TRIPLINE_TEST_VICTIM";

/// SIGKILL at each statement. At PostgreSQL's COMMIT the server alone decides, and either is right.
fn a_process_killed_at_any_statement_leaves_nothing_behind(db: Db) {
    if let (Ok(url), Ok(prepared)) = (std::env::var(VICTIM_URL), std::env::var(VICTIM)) {
        commit_as_victim(&url, &Prepared::read(&prepared));
    }
    let statements = plant::statements(&db);
    let (owner, prepared) = ready(&db, &statements);
    drop(owner);
    let mut killed = 0;
    for at in 1..STATEMENTS_MAX {
        let before = dump(&db);
        plant(&db, at, Failure::Hangs);
        let holder = plant::hold_hangs(&db);
        let mut victim = launch_victim(&db, prepared);
        if !plant::wait_for_hang(&db, &mut victim) {
            assert_ne!(before.difference(&dump(&db)).len(), 0, "it went through");
            break;
        }
        victim.kill().unwrap();
        victim.wait().unwrap();
        drop(holder);
        plant(&db, 0, Failure::Hangs);
        killed += 1;
        // Waits for what a server may still be doing for the dead.
        drop(db.claim());
        let left = before.difference(&dump(&db));
        if !left.is_empty() {
            assert!(!db.is_sqlite(), "killed at statement {at}: {left:#?}");
            let rest = statements.iter().filter(|one| one.starts_with("INSERT"));
            assert!(left.len() > rest.count() / 2, "part of a commit is there: {left:#?}");
            break;
        }
    }
    assert!(killed >= statements.len(), "{killed} kills, {} statements", statements.len());
}

fn launch_victim(db: &Db, prepared: Prepared) -> Child {
    let database = if db.is_sqlite() { "sqlite" } else { "postgres" };
    let module = module_path!().split_once("::").expect("a module of the test binary").1;
    let name =
        format!("{module}::{database}::a_process_killed_at_any_statement_leaves_nothing_behind");
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &name])
        .env(VICTIM_URL, &db.url)
        .env(VICTIM, prepared.written())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// Runs in the process that is to die, and ends it.
fn commit_as_victim(url: &str, prepared: &Prepared) -> ! {
    let db = Db::at(url);
    let mut owner = db.claim();
    let commit = prepared.everything(&owner);
    owner.commit(&commit);
    std::process::exit(0);
}
