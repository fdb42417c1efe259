//! Inbound webhooks.

crate::sql::step!(
    "
    CREATE TABLE hooks (
        name        TEXT PRIMARY KEY,
        preset      TEXT NOT NULL,
        -- JSON list: names of secrets.
        secrets     TEXT NOT NULL,
        header      TEXT NOT NULL,
        tolerance   {int} NOT NULL,
        event_type  TEXT NOT NULL,
        subject     TEXT,
        event_id    TEXT,
        is_active   {bool} NOT NULL,
        created_at  {int} NOT NULL,
        updated_at  {int} NOT NULL,
        revision    {int} NOT NULL
    ) {table};
    "
);
