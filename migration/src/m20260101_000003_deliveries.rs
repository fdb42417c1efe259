//! Deliveries that wait, delayed emits, and the runs that were kept.

crate::sql::step!(
    "
    CREATE TABLE deliveries (
        id               {uuid} PRIMARY KEY,
        event            {uuid} NOT NULL,
        seq              {int} NOT NULL,
        subscription     {uuid} NOT NULL,
        status           TEXT NOT NULL,
        attempts         {int} NOT NULL,
        next_at          {int} NOT NULL,
        error_kind       TEXT,
        error_message    TEXT,
        error_stack      TEXT,
        first_failed_at  {int},
        script_version   {int} NOT NULL,
        letter           {uuid},
        replay           {int} NOT NULL,
        data             TEXT,
        pinned_version   {int},
        crashes_alone    {int} NOT NULL,
        bulk             {uuid}
    ) {table};
    CREATE INDEX deliveries_due ON deliveries (next_at, id);
    CREATE INDEX deliveries_dying ON deliveries (id) WHERE status = 'dying';
    CREATE INDEX deliveries_subscription ON deliveries (subscription, seq);
    CREATE INDEX deliveries_seq ON deliveries (seq);

    CREATE TABLE scheduled (
        id                  {uuid} PRIMARY KEY,
        due_at              {int} NOT NULL,
        created_at          {int} NOT NULL,
        event_id            TEXT,
        source              TEXT NOT NULL,
        type                TEXT NOT NULL,
        subject             TEXT,
        time                TEXT,
        datacontenttype     TEXT,
        dataschema          TEXT,
        extensions          TEXT,
        encoding            {int} NOT NULL,
        data                {bytes} NOT NULL,
        cause_event         {uuid},
        cause_subscription  {uuid},
        hop                 {int} NOT NULL,
        spread              {int} NOT NULL
    ) {table};
    CREATE INDEX scheduled_due ON scheduled (due_at, id);

    -- The number is counted by the journal and carried by the id. The runs of one event are found
    -- through its outcomes, which name them.
    CREATE TABLE runs (
        number          {int} PRIMARY KEY,
        id              {uuid} NOT NULL,
        event           {uuid} NOT NULL,
        seq             {int} NOT NULL,
        subscription    {uuid} NOT NULL,
        script          {uuid} NOT NULL,
        script_version  {int} NOT NULL,
        attempt         {int} NOT NULL,
        replay          {int} NOT NULL,
        failed          {bool} NOT NULL,
        error_kind      TEXT,
        error_message   TEXT,
        error_stack     TEXT,
        result          TEXT,
        logs            TEXT,
        warnings        TEXT,
        started_at      {int} NOT NULL,
        duration_us     {int} NOT NULL,
        cpu_us          {int} NOT NULL,
        queued_us       {int} NOT NULL,
        emitted         {bytes}
    ) {table};
    CREATE INDEX runs_subscription ON runs (subscription, number);
    CREATE INDEX runs_failed ON runs (number) WHERE failed = TRUE;
    "
);
