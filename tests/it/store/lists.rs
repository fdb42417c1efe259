//! The lists of the API: scripts, subscriptions, events, runs.

use tripline::{
    domain::{
        ErrorKind, Kind, Language, Millis, RunError, ScriptId, Seq, SubscriptionId,
        SubscriptionState, TypePattern, block::Outcome,
    },
    store::{
        Error, EventFilter, NewScript, RunFilter, ScriptPatch, SubscriptionFilter,
        journal::SubscriptionChange,
    },
};

use super::support::{Db, create, entry, event, on_both, run, script, with_block};

on_both!(
    every_changed_source_is_a_version,
    a_taken_script_name_is_refused,
    a_changed_script_refuses_an_old_revision,
    a_script_in_use_cannot_be_deleted,
    scripts_are_listed_by_name,
    subscriptions_are_found_by_what_they_take,
    events_are_searched,
    runs_are_searched,
    a_stale_owner_cannot_write_through_the_gate,
);

fn every_changed_source_is_a_version(db: Db) {
    let store = db.open();
    let first = script(&db, &store, "notify");
    assert_eq!((first.version, first.revision), (1, 1));
    let same = ScriptPatch { source: Some(first.source.clone()), ..ScriptPatch::default() };
    let unchanged = db.wait(store.scripts().update(first.id, None, same)).unwrap();
    assert_eq!((unchanged.version, unchanged.revision), (1, 2), "no new source, no version");
    let patch = ScriptPatch {
        name: Some("notify all".into()),
        description: Some(Some("tells everyone".into())),
        source: Some("export default () => 2".into()),
        note: Some("because".into()),
        by: Some("ann".into()),
        ..ScriptPatch::default()
    };
    let second = db.wait(store.scripts().update(first.id, Some(2), patch)).unwrap();
    assert_eq!((second.version, second.name.as_str()), (2, "notify all"));
    assert_eq!(second.description.as_deref(), Some("tells everyone"));
    let old = db.wait(store.scripts().version(first.id, 1)).unwrap().unwrap();
    assert_eq!(old.source, first.source);
    let versions = db.wait(store.scripts().versions(first.id, None, 10)).unwrap();
    assert_eq!(versions.iter().map(|version| version.version).collect::<Vec<_>>(), [2, 1]);
    assert_eq!(versions[0].note.as_deref(), Some("because"));
    assert_eq!(versions[0].created_by.as_deref(), Some("ann"));
    assert_eq!(db.wait(store.scripts().versions(first.id, Some(2), 10)).unwrap().len(), 1);
    assert_eq!(db.wait(store.scripts().version(first.id, 3)).unwrap(), None);
}

fn a_taken_script_name_is_refused(db: Db) {
    let store = db.open();
    script(&db, &store, "one");
    let two = script(&db, &store, "two");
    let taken = NewScript {
        name: "one".into(),
        description: None,
        language: Language::Javascript,
        source: String::new(),
        secrets: Vec::new(),
        fetch_allow: Vec::new(),
        kind: Kind::Script,
        imports: Vec::new(),
        note: None,
        by: None,
    };
    let refused = db.wait(store.scripts().create(taken));
    assert!(matches!(&refused, Err(Error::NameTaken { name }) if name == "one"), "{refused:?}");
    let rename = ScriptPatch { name: Some("one".into()), ..ScriptPatch::default() };
    let refused = db.wait(store.scripts().update(two.id, None, rename));
    assert!(matches!(refused, Err(Error::NameTaken { .. })), "{refused:?}");
    assert_eq!(db.wait(store.scripts().count()).unwrap(), 2);
}

fn a_changed_script_refuses_an_old_revision(db: Db) {
    let store = db.open();
    let first = script(&db, &store, "one");
    db.wait(store.scripts().update(first.id, Some(1), ScriptPatch::default())).unwrap();
    let outdated = db.wait(store.scripts().update(first.id, Some(1), ScriptPatch::default()));
    assert!(matches!(outdated, Err(Error::Outdated { expected: 1, current: 2 })), "{outdated:?}");
    let outdated = db.wait(store.scripts().delete(first.id, Some(1)));
    assert!(matches!(outdated, Err(Error::Outdated { .. })), "{outdated:?}");
    db.wait(store.scripts().delete(first.id, Some(2))).unwrap();
    assert_eq!(db.wait(store.scripts().find(first.id)).unwrap(), None);
    let gone = db.wait(store.scripts().delete(first.id, None));
    assert!(matches!(gone, Err(Error::NotFound { what: "script", .. })), "{gone:?}");
}

fn a_script_in_use_cannot_be_deleted(db: Db) {
    let mut owner = db.claim();
    let used = script(&db, &owner.store, "used");
    let (id, change) = create("one", "a", used.id, 1);
    let mut commit = owner.next();
    commit.changes = vec![change];
    owner.commit(&commit);
    let refused = db.wait(owner.store.scripts().delete(used.id, None));
    assert!(matches!(refused, Err(Error::InUse { subscriptions: 1 })), "{refused:?}");
    let mut commit = owner.next();
    commit.changes = vec![SubscriptionChange::Delete { id, from: Seq(1), at: Millis(1) }];
    owner.commit(&commit);
    db.wait(owner.store.scripts().delete(used.id, None)).unwrap();
    // And the other way round: a subscription cannot name a script that is gone.
    let (_, change) = create("two", "a", used.id, 1);
    let mut commit = owner.next();
    commit.changes = vec![change];
    assert!(owner.try_commit(&commit).is_err());
}

fn scripts_are_listed_by_name(db: Db) {
    let store = db.open();
    for name in ["Gamma", "alpha 50%", "beta"] {
        script(&db, &store, name);
    }
    let names = |text: Option<&str>, after: Option<&str>, limit| {
        let page = db.wait(store.scripts().page(text, None, after, limit)).unwrap();
        page.into_iter().map(|script| script.name).collect::<Vec<_>>()
    };
    let all = names(None, None, 10);
    assert_eq!(all.len(), 3);
    assert_eq!(names(None, Some(&all[0]), 1), all[1..2]);
    assert_eq!(names(Some("GAM"), None, 10), ["Gamma"]);
    assert_eq!(names(Some("50%"), None, 10), ["alpha 50%"]);
    assert_eq!(names(Some("5%"), None, 10), Vec::<String>::new());
}

fn subscriptions_are_found_by_what_they_take(db: Db) {
    let mut owner = db.claim();
    let used = script(&db, &owner.store, "used");
    let other = script(&db, &owner.store, "other");
    let mut commit = owner.next();
    let mut ids = Vec::new();
    for (name, pattern, script) in [
        ("all", "**", used.id),
        ("exact", "order.paid", used.id),
        ("one segment", "order.*", other.id),
        ("payments", "payment.**", other.id),
    ] {
        let (id, change) = create(name, pattern, script, 1);
        ids.push(id);
        commit.changes.push(change);
    }
    commit.changes.push(SubscriptionChange::State {
        id: ids[0],
        paused: true,
        suspended: None,
        at: Millis(2),
    });
    owner.commit(&commit);
    let subscriptions = owner.store.subscriptions();
    let mut names: Vec<_> = db
        .wait(subscriptions.by_event_type("order.paid"))
        .unwrap()
        .into_iter()
        .map(|subscription| subscription.name)
        .collect();
    names.sort();
    assert_eq!(names, ["all", "exact", "one segment"]);

    let page = |filter: SubscriptionFilter, after: Option<&str>, limit| {
        let page = db.wait(subscriptions.page(&filter, after, limit)).unwrap();
        page.into_iter().map(|subscription| subscription.name).collect::<Vec<_>>()
    };
    let any = SubscriptionFilter::default;
    assert_eq!(page(any(), None, 10), ["all", "exact", "one segment", "payments"]);
    assert_eq!(page(any(), Some("exact"), 1), ["one segment"]);
    assert_eq!(page(SubscriptionFilter { script: Some(other.id), ..any() }, None, 9).len(), 2);
    let paused = SubscriptionFilter { state: Some(SubscriptionState::Paused), ..any() };
    assert_eq!(page(paused, None, 9), ["all"]);
    let active = SubscriptionFilter { state: Some(SubscriptionState::Active), ..any() };
    assert_eq!(page(active, None, 9).len(), 3);
    let takes =
        |event_type: &str| SubscriptionFilter { event_type: Some(event_type.into()), ..any() };
    assert_eq!(page(takes("payment.a.b"), None, 1), ["all"]);
    // The pages between match nothing, and are passed.
    assert_eq!(page(takes("payment.a.b"), Some("all"), 1), ["payments"]);
    assert_eq!(
        page(SubscriptionFilter { text: Some("SEG".into()), ..any() }, None, 9),
        ["one segment"]
    );
    assert_eq!(db.wait(subscriptions.count_of_script(used.id)).unwrap(), 2);
}

fn events_are_searched(db: Db) {
    let mut owner = db.claim();
    let types = ["order.paid", "order.sent", "payment.eu.made", "order.paid"];
    let mut commit = owner.with_events(types.iter().map(|name| {
        let mut new = event(name, None, "{}");
        new.envelope.subject = Some(format!("about {name}").into());
        new
    }));
    let cause = tripline::domain::Cause {
        event: commit.events[0].uid,
        subscription: SubscriptionId::fresh(),
    };
    std::sync::Arc::make_mut(&mut commit.events[3]).lineage.cause = Some(cause);
    owner.commit(&commit);
    let seqs = |filter: EventFilter, before: Option<u64>, limit| {
        let page = db.wait(owner.store.events().page(&filter, before.map(Seq), limit)).unwrap();
        page.iter().map(|event| event.seq.0).collect::<Vec<_>>()
    };
    let any = EventFilter::default;
    let of_type =
        |text: &str| EventFilter { event_type: Some(TypePattern::parse(text).unwrap()), ..any() };
    assert_eq!(seqs(any(), None, 10), [4, 3, 2, 1]);
    assert_eq!(seqs(any(), Some(3), 1), [2]);
    assert_eq!(seqs(of_type("order.paid"), None, 10), [4, 1]);
    assert_eq!(seqs(of_type("order.*"), None, 10), [4, 2, 1]);
    assert_eq!(seqs(of_type("*.**"), None, 2), [4, 3]);
    assert_eq!(seqs(of_type("payment.*"), None, 10), Vec::<u64>::new());
    let about = EventFilter { subject: Some("about order.sent".into()), ..any() };
    assert_eq!(seqs(about, None, 10), [2]);
    let between = EventFilter {
        from: Some(commit.events[1].accepted_at),
        until: Some(commit.events[3].accepted_at),
        ..any()
    };
    assert_eq!(seqs(between, None, 10), [3, 2]);
    assert_eq!(seqs(EventFilter { cause: Some(cause.event), ..any() }, None, 10), [4]);
    assert_eq!(db.wait(owner.store.events().caused_by(cause.event, 9)).unwrap().len(), 1);
    let types = db.wait(owner.store.events().types()).unwrap();
    assert_eq!(types, ["order.paid", "order.sent", "payment.eu.made"]);
}

fn runs_are_searched(db: Db) {
    let mut owner = db.claim();
    let script = script(&db, &owner.store, "s").id;
    let (a, change) = create("a", "**", script, 1);
    let b = SubscriptionId::fresh();
    let mut events = owner.with_events([event("x", None, "{}"), event("x", None, "{}")]);
    events.changes = vec![change];
    owner.commit(&events);
    let mut runs = vec![
        run(1, &events.events[0], a, script),
        run(2, &events.events[0], b, ScriptId::fresh()),
        run(3, &events.events[1], a, script),
    ];
    runs[2].error =
        Some(RunError { kind: ErrorKind::Timeout, message: "slow".into(), stack: None });
    owner.commit_runs(runs.into_iter().map(|run| (run, vec![])).collect());
    let outcomes = [
        entry(1, a, Outcome::Succeeded, Some(1)),
        entry(1, b, Outcome::Succeeded, Some(2)),
        entry(2, a, Outcome::Dead, Some(3)),
    ];
    let commit = with_block(owner.next(), &outcomes, 2);
    owner.commit(&commit);

    let numbers = |filter: RunFilter, before, limit| {
        let page = db.wait(owner.store.runs().page(&filter, before, limit)).unwrap();
        page.iter().map(|run| run.id.number()).collect::<Vec<_>>()
    };
    let any = RunFilter::default;
    assert_eq!(numbers(any(), None, 10), [3, 2, 1]);
    assert_eq!(numbers(any(), Some(3), 1), [2]);
    assert_eq!(numbers(RunFilter { subscription: Some(a), ..any() }, None, 10), [3, 1]);
    assert_eq!(numbers(RunFilter { script: Some(script), ..any() }, None, 10), [3, 1]);
    assert_eq!(numbers(RunFilter { event: Some(events.events[0].uid), ..any() }, None, 10), [2, 1]);
    assert_eq!(numbers(RunFilter { failed: Some(true), ..any() }, None, 10), [3]);
    assert_eq!(numbers(RunFilter { failed: Some(false), ..any() }, None, 10), [2, 1]);
    let timeouts = RunFilter { error_kind: Some(ErrorKind::Timeout), ..any() };
    assert_eq!(numbers(timeouts, None, 10), [3]);
    let until = RunFilter { until: Some(Millis(1_790_000_000_002)), ..any() };
    assert_eq!(numbers(until, None, 10), [1]);
}

fn a_stale_owner_cannot_write_through_the_gate(db: Db) {
    let owner = db.claim();
    db.tamper("UPDATE journal_state SET epoch = epoch + 1");
    let new = NewScript {
        name: "late".into(),
        description: None,
        language: Language::Javascript,
        source: String::new(),
        secrets: Vec::new(),
        fetch_allow: Vec::new(),
        kind: Kind::Script,
        imports: Vec::new(),
        note: None,
        by: None,
    };
    let refused = db.wait(owner.store.scripts().create(new));
    assert!(matches!(refused, Err(Error::Stale { ours: 1 })), "{refused:?}");
    assert_eq!(db.wait(owner.store.scripts().count()).unwrap(), 0);
}
