//! Dead letters, and the bulk operations on them.

crate::sql::step!(
    "
    CREATE TABLE dead_letters (
        id                 {uuid} PRIMARY KEY,
        delivery           {uuid} NOT NULL UNIQUE,
        status             TEXT NOT NULL,
        subscription       {uuid} NOT NULL,
        subscription_name  TEXT NOT NULL,
        script             {uuid} NOT NULL,
        script_version     {int} NOT NULL,
        event              {uuid} NOT NULL,
        seq                {int} NOT NULL,
        event_type         TEXT NOT NULL,
        error_kind         TEXT NOT NULL,
        error_message      TEXT NOT NULL,
        error_stack        TEXT,
        fingerprint        TEXT NOT NULL,
        attempts           {int} NOT NULL,
        first_failed_at    {int} NOT NULL,
        died_at            {int} NOT NULL,
        replays            {int} NOT NULL,
        data               TEXT,
        discarded_at       {int},
        skipped_at         {int},
        revision           {int} NOT NULL
    ) {table};
    CREATE INDEX dead_letters_died_at ON dead_letters (died_at, id);
    CREATE INDEX dead_letters_status ON dead_letters (status, died_at, id);
    CREATE INDEX dead_letters_subscription ON dead_letters (subscription, died_at, id);
    CREATE INDEX dead_letters_fingerprint ON dead_letters (fingerprint, died_at, id);
    CREATE INDEX dead_letters_event_type ON dead_letters (event_type, died_at, id);
    CREATE INDEX dead_letters_seq ON dead_letters (seq);

    CREATE TABLE bulk_operations (
        id           {uuid} PRIMARY KEY,
        action       TEXT NOT NULL,
        filter       TEXT NOT NULL,
        rate         {int},
        total        {int} NOT NULL,
        done         {int} NOT NULL,
        state        TEXT NOT NULL,
        created_at   {int} NOT NULL,
        finished_at  {int}
    ) {table};
    CREATE INDEX bulk_operations_created_at ON bulk_operations (created_at, id);
    "
);
