-- Who owns which shard, how far each table group has counted, and what must be summed again.

CREATE TABLE shard (
    shard           smallint      PRIMARY KEY,
    epoch           bigint        NOT NULL DEFAULT 0,
    owner           bigint,
    lease_until     timestamptz   NOT NULL DEFAULT '-infinity',
    backend_pids    integer[]     NOT NULL DEFAULT '{}',
    backend_started timestamptz[] NOT NULL DEFAULT '{}'
) WITH (fillfactor = 50);
COMMENT ON TABLE shard IS 'Leases: one row per shard';
COMMENT ON COLUMN shard.shard IS 'Number of the shard, from 0';
COMMENT ON COLUMN shard.epoch IS 'Grows with each claim; what an earlier owner still sends is refused';
COMMENT ON COLUMN shard.owner IS 'Random id of the aggregator that owns it, as a signed number; null: nobody';
COMMENT ON COLUMN shard.lease_until IS 'Until when it does, by the database''s clock';
COMMENT ON COLUMN shard.backend_pids IS 'The owner''s Postgres backends; who claims an expired lease ends them first';
COMMENT ON COLUMN shard.backend_started IS 'When each of them started, since pids are used again';

CREATE TABLE shard_group (
    shard          smallint    NOT NULL REFERENCES shard,
    grp            smallint    NOT NULL,
    epoch          bigint      NOT NULL DEFAULT 0,
    seq            bigint      NOT NULL DEFAULT 0,
    stream_time    timestamptz NOT NULL DEFAULT 'epoch',
    msg_id         text        NOT NULL DEFAULT '',
    instances      bigint[]    NOT NULL DEFAULT '{}',
    numbers        bigint[]    NOT NULL DEFAULT '{}',
    plan           text        NOT NULL DEFAULT '',
    stream_created text        NOT NULL DEFAULT '',
    judged_until   timestamptz,
    committed_at   timestamptz,
    PRIMARY KEY (shard, grp)
) WITH (fillfactor = 50);
COMMENT ON TABLE shard_group IS 'How far each table group of a shard has counted; written in the transaction of its counts';
COMMENT ON COLUMN shard_group.shard IS 'The shard';
COMMENT ON COLUMN shard_group.grp IS '0: minutes, events, coverage; 1 and up: slices of the per-chatter tables; 100: roll-up';
COMMENT ON COLUMN shard_group.epoch IS 'The epoch of the claim that may write; see shard.epoch';
COMMENT ON COLUMN shard_group.seq IS 'Stream sequence of the last message counted, 0: none; of the roll-up: its number of commits';
COMMENT ON COLUMN shard_group.stream_time IS 'Stream time there: JetStream''s timestamps, a running maximum';
COMMENT ON COLUMN shard_group.msg_id IS 'Nats-Msg-Id of that message; empty: it had none';
COMMENT ON COLUMN shard_group.instances IS 'Ingest instances that were heard, as signed numbers';
COMMENT ON COLUMN shard_group.numbers IS 'The last batch number of each of them';
COMMENT ON COLUMN shard_group.plan IS 'Object name of the plan in force; empty: none yet';
COMMENT ON COLUMN shard_group.stream_created IS 'When the JetStream stream was created that seq refers to; empty: never seen';
COMMENT ON COLUMN shard_group.judged_until IS 'Of group 0: until when the view gap may judge; null: not yet';
COMMENT ON COLUMN shard_group.committed_at IS 'When the last commit began';

CREATE TABLE aggregator (
    owner   bigint      PRIMARY KEY,
    seen_at timestamptz NOT NULL
) WITH (fillfactor = 50);
COMMENT ON TABLE aggregator IS 'Aggregators that are alive, to share the shards fairly';
COMMENT ON COLUMN aggregator.owner IS 'Its random id, as a signed number';
COMMENT ON COLUMN aggregator.seen_at IS 'Its last sign of life, by the database''s clock';

CREATE TABLE dirty (
    shard        smallint    NOT NULL,
    level        text        NOT NULL CHECK (level IN ('hour', 'hour_uniques', 'day', 'day_uniques')),
    window_start timestamptz NOT NULL,
    PRIMARY KEY (shard, level, window_start)
) WITH (fillfactor = 50);
COMMENT ON TABLE dirty IS 'Windows that must be summed (again); a window without a row is exactly up to date';
COMMENT ON COLUMN dirty.shard IS 'The shard whose channels changed';
COMMENT ON COLUMN dirty.level IS
    'hour, day: sums and unique chatters; *_uniques: unique chatters alone, where the sums'' source is dropped';
COMMENT ON COLUMN dirty.window_start IS 'Start of the window, UTC';

CREATE TABLE retained_from (
    level      text        PRIMARY KEY CHECK (level IN ('minute_chatters', 'minute', 'hour', 'day', 'event')),
    start_time timestamptz NOT NULL DEFAULT '-infinity'
);
INSERT INTO retained_from (level) VALUES ('minute_chatters'), ('minute'), ('hour'), ('day'), ('event');
COMMENT ON TABLE retained_from IS 'What retention has dropped: a level keeps windows from this time on';
COMMENT ON COLUMN retained_from.level IS 'minute_chatters, minute, hour, day: tables of that window; event: chat_event, phrase_match';
COMMENT ON COLUMN retained_from.start_time IS 'Start of the oldest window that may be there; -infinity: nothing was dropped';
