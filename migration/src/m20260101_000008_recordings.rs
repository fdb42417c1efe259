//! What runs need to run again.

crate::sql::step!(
    "
    CREATE TABLE recordings (
        -- The run's.
        number   {int} PRIMARY KEY,
        content  {bytes} NOT NULL
    ) {table};
    "
);
