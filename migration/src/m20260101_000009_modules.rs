//! Scripts that others import.

crate::sql::step!(
    "
    -- 'script' or 'module'.
    ALTER TABLE scripts ADD COLUMN kind TEXT NOT NULL DEFAULT 'script';
    -- JSON list: names of the modules that the newest source imports, those of its modules included;
    -- NULL is the empty one.
    ALTER TABLE scripts ADD COLUMN imports TEXT;
    "
);
