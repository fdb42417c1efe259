//! What the journal writes: its own state, events and their keys, outcome blocks.

crate::sql::step!(
    "
    -- One row. Every commit moves it and checks the epoch, so a stale owner cannot write.
    CREATE TABLE journal_state (
        id             {int} PRIMARY KEY CHECK (id = 1),
        store          {uuid} NOT NULL,
        created_at     {int} NOT NULL,
        epoch          {int} NOT NULL,
        batch          {int} NOT NULL,
        seq            {int} NOT NULL,
        run            {int} NOT NULL,
        watermark      {int} NOT NULL,
        accepted_at    {int} NOT NULL,
        clean          {bool} NOT NULL,
        unclean_stops  {int} NOT NULL
    ) {table};

    -- seq is counted by the journal. The uid carries it, so no index by uid is needed.
    CREATE TABLE events (
        seq                 {int} PRIMARY KEY,
        uid                 {uuid} NOT NULL,
        id                  TEXT,
        source              TEXT NOT NULL,
        type                TEXT NOT NULL,
        subject             TEXT,
        time                TEXT,
        datacontenttype     TEXT,
        dataschema          TEXT,
        extensions          TEXT,
        encoding            {int} NOT NULL,
        data                {bytes} NOT NULL,
        accepted_at         {int} NOT NULL,
        cause_event         {uuid},
        cause_subscription  {uuid},
        hop                 {int} NOT NULL,
        spread              {int} NOT NULL,
        checksum            {int} NOT NULL
    ) {table};
    CREATE INDEX events_type ON events (type, seq);
    CREATE INDEX events_cause ON events (cause_event) WHERE cause_event IS NOT NULL;

    -- Which (source, id) was accepted: each commit's keys as one block, until enough of them are
    -- sealed into a segment of sorted pages. Entries are 48 bytes: key, uid, digest.
    CREATE TABLE key_blocks (
        batch    {int} PRIMARY KEY,
        entries  {bytes} NOT NULL
    ) {table};
    CREATE TABLE key_segments (
        id         {int} PRIMARY KEY,
        count      {int} NOT NULL,
        first_seq  {int} NOT NULL,
        last_seq   {int} NOT NULL,
        newest     {int} NOT NULL,
        filter     {bytes} NOT NULL
    ) {table};
    CREATE TABLE key_pages (
        segment    {int} NOT NULL,
        first_key  {bytes} NOT NULL,
        entries    {bytes} NOT NULL,
        PRIMARY KEY (segment, first_key)
    ) {table};

    -- The fresh outcomes of an event s lie between the first block with top_seq >= s and the
    -- first with watermark >= s.
    CREATE TABLE outcome_blocks (
        batch      {int} PRIMARY KEY,
        at         {int} NOT NULL,
        count      {int} NOT NULL,
        bytes      {bytes} NOT NULL,
        top_seq    {int} NOT NULL,
        watermark  {int} NOT NULL
    ) {table};
    CREATE INDEX outcome_blocks_top_seq ON outcome_blocks (top_seq, batch);
    CREATE INDEX outcome_blocks_watermark ON outcome_blocks (watermark, batch);

    CREATE TABLE outcome_late (
        subscription  {uuid} NOT NULL,
        max_seq       {int} NOT NULL,
        batch         {int} NOT NULL,
        min_seq       {int} NOT NULL,
        PRIMARY KEY (subscription, max_seq, batch)
    ) {keyed};
    CREATE INDEX outcome_late_seq ON outcome_late (max_seq, min_seq);
    CREATE INDEX outcome_late_batch ON outcome_late (batch);
    "
);
