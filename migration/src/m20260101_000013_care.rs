//! Which events may be missing, and which lost their payloads on request.

crate::sql::step!(
    "
    -- When the payload was erased; NULL for all others.
    ALTER TABLE events ADD COLUMN erased_at {int};

    -- From this seq on every event is stored: retention has not been here.
    ALTER TABLE journal_state ADD COLUMN retained {int} NOT NULL DEFAULT 1;
    UPDATE journal_state SET retained = COALESCE(
        (SELECT MAX(e.seq) FROM events e
         WHERE NOT EXISTS (SELECT 1 FROM events p WHERE p.seq = e.seq - 1)),
        journal_state.seq + 1);
    "
);
