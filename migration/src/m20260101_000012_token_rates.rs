//! How often a token may ask.

crate::sql::step!(
    "
    -- Requests a second; NULL for as many as the server takes.
    ALTER TABLE tokens ADD COLUMN requests_per_s {int};
    "
);
