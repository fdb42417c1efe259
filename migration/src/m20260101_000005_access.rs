//! Who may do what, and who did: tokens, sessions, audit.

crate::sql::step!(
    "
    CREATE TABLE tokens (
        id            {uuid} PRIMARY KEY,
        name          TEXT NOT NULL,
        role          TEXT NOT NULL,
        hash          {bytes} NOT NULL UNIQUE,
        prefix        TEXT NOT NULL,
        created_at    {int} NOT NULL,
        expires_at    {int},
        last_used_at  {int},
        revoked_at    {int}
    ) {table};

    CREATE TABLE sessions (
        id          {uuid} PRIMARY KEY,
        hash        {bytes} NOT NULL UNIQUE,
        token       {uuid} NOT NULL REFERENCES tokens (id) ON DELETE CASCADE,
        created_at  {int} NOT NULL,
        expires_at  {int} NOT NULL
    ) {table};
    CREATE INDEX sessions_token ON sessions (token);

    CREATE TABLE audit (
        id      {uuid} PRIMARY KEY,
        at      {int} NOT NULL,
        actor   TEXT NOT NULL,
        action  TEXT NOT NULL,
        target  TEXT NOT NULL,
        detail  TEXT
    ) {table};
    CREATE INDEX audit_at ON audit (at, id);
    "
);
