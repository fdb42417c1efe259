//! Secrets of scripts, and what each script may use of the outside.

crate::sql::step!(
    "
    CREATE TABLE secrets (
        name        TEXT PRIMARY KEY,
        -- Sealed with a key that is not in the database.
        sealed      {bytes} NOT NULL,
        created_at  {int} NOT NULL,
        updated_at  {int} NOT NULL
    ) {keyed};

    -- JSON lists; NULL is the empty one.
    ALTER TABLE scripts ADD COLUMN secrets TEXT;
    ALTER TABLE scripts ADD COLUMN fetch_allow TEXT;
    "
);
