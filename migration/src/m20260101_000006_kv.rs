//! The key-value store of scripts.

crate::sql::step!(
    "
    -- Keys are ordered by their bytes, whatever the database's own order is.
    CREATE TABLE kv (
        namespace   {ordered} NOT NULL,
        key         {ordered} NOT NULL,
        value       TEXT NOT NULL,
        expires_at  {int},
        updated_at  {int} NOT NULL,
        PRIMARY KEY (namespace, key)
    ) {table};
    CREATE INDEX kv_expires_at ON kv (expires_at) WHERE expires_at IS NOT NULL;

    -- What each namespace holds, kept by the commits that change it: quotas need no count.
    CREATE TABLE kv_spaces (
        namespace  {ordered} PRIMARY KEY,
        keys       {int} NOT NULL,
        bytes      {int} NOT NULL
    ) {keyed};
    "
);
