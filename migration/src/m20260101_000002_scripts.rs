//! Scripts with their versions, subscriptions with the definitions they had.

crate::sql::step!(
    "
    CREATE TABLE scripts (
        id           {uuid} PRIMARY KEY,
        name         TEXT NOT NULL UNIQUE,
        description  TEXT,
        version      {int} NOT NULL,
        created_at   {int} NOT NULL,
        updated_at   {int} NOT NULL,
        revision     {int} NOT NULL
    ) {table};

    CREATE TABLE script_versions (
        script      {uuid} NOT NULL REFERENCES scripts (id) ON DELETE CASCADE,
        version     {int} NOT NULL,
        language    TEXT NOT NULL,
        source      TEXT NOT NULL,
        note        TEXT,
        created_at  {int} NOT NULL,
        created_by  TEXT,
        PRIMARY KEY (script, version)
    ) {table};

    -- The reference is what keeps a script in use from being deleted, whatever races.
    CREATE TABLE subscriptions (
        id              {uuid} PRIMARY KEY,
        name            TEXT NOT NULL UNIQUE,
        script          {uuid} NOT NULL REFERENCES scripts (id),
        script_version  {int},
        event_type      TEXT NOT NULL,
        filter          TEXT,
        is_active       {bool} NOT NULL,
        retry_policy    TEXT NOT NULL,
        concurrency     {int} NOT NULL,
        ordering        TEXT NOT NULL,
        ordering_key    TEXT,
        on_dead         TEXT NOT NULL,
        limits          TEXT NOT NULL,
        from_seq        {int} NOT NULL,
        paused          {bool} NOT NULL,
        suspended       TEXT,
        cursor          {int},
        created_at      {int} NOT NULL,
        updated_at      {int} NOT NULL,
        revision        {int} NOT NULL
    ) {table};
    CREATE INDEX subscriptions_script ON subscriptions (script);
    CREATE INDEX subscriptions_event_type ON subscriptions (event_type);

    -- From which seq on which definition holds; recovery matches old events against old ones.
    CREATE TABLE subscription_definitions (
        subscription  {uuid} NOT NULL REFERENCES subscriptions (id) ON DELETE CASCADE,
        from_seq      {int} NOT NULL,
        script        {uuid} NOT NULL,
        definition    TEXT NOT NULL,
        PRIMARY KEY (subscription, from_seq)
    ) {keyed};
    CREATE INDEX subscription_definitions_script ON subscription_definitions (script);
    "
);
