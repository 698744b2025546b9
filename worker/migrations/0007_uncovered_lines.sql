-- Lines that were counted in a time that their source does not surely cover: a late copy of one is known by its key.

CREATE TABLE uncovered_line (
    key        uuid        PRIMARY KEY,
    channel_id bigint      NOT NULL,
    sent_at    timestamptz NOT NULL,
    shard      smallint    NOT NULL
);
CREATE INDEX uncovered_line_sent_at ON uncovered_line (sent_at);
COMMENT ON TABLE uncovered_line IS
    'Lines counted beyond what their source surely covers, whose keys have left the memory of the aggregator';
COMMENT ON COLUMN uncovered_line.key IS 'Event key: Twitch''s message id, else a hash of what identifies the event';
COMMENT ON COLUMN uncovered_line.channel_id IS 'Channel: Twitch''s room-id';
COMMENT ON COLUMN uncovered_line.sent_at IS 'Twitch''s time of the line';
COMMENT ON COLUMN uncovered_line.shard IS 'The shard that counts the channel';
