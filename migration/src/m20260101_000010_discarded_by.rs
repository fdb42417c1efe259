//! Which bulk operation discarded a letter, so that it can be undone.

crate::sql::step!(
    "
    ALTER TABLE dead_letters ADD COLUMN discarded_by {uuid};
    CREATE INDEX dead_letters_discarded_by ON dead_letters (discarded_by)
        WHERE discarded_by IS NOT NULL;
    "
);
