//! Alerts about what a crash left behind, over stores that are laid out for it.

use std::sync::Arc;

use tripline::store::journal::RowStatus;

use super::support::{Db, create, delivery, event, on_both, script};
use crate::support::{Server, TestRuntime};

on_both!(what_died_before_a_crash_is_told_to_a_watch_that_was_new);

/// At the start the watch takes effect above the watermark only, and the letter is written at once.
fn what_died_before_a_crash_is_told_to_a_watch_that_was_new(db: Db) {
    let mut owner = db.claim();
    let script = script(&db, &owner.store, "any").id;
    owner.commit(&owner.with_events([event("job.unsettled", None, "{}")]));
    let (_, watch) = create("watch", "tripline.**", script, 2);
    let (fails, change) = create("fails", "job.*", script, 2);
    let mut commit = owner.next();
    commit.changes = vec![watch, change];
    owner.commit(&commit);
    let mut commit = owner.with_events([event("job.due", None, "{}")]);
    let died = Arc::clone(&commit.events[0]);
    commit.rows = vec![delivery(&died, fails, RowStatus::Dying, 0)];
    owner.commit(&commit);
    drop(owner);

    db.wait(async {
        let mut server = Server::new("", Some(&db.url));
        server.start().await;
        let rt = TestRuntime::of(server);
        let told = rt.events("tripline.dead_letter.created", 1).await.remove(0);
        assert_eq!(told["cause"]["event_id"], died.uid.to_string());
    });
}
