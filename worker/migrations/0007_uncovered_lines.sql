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

-- Gaps are judged as far back as there are hours: who listened before is forgotten with them.
CREATE OR REPLACE VIEW gap AS
SELECT c.channel_id, c.login, lower(g.hole) AS since, upper(g.hole) AS until, upper(g.hole) = s.judged_until AS ongoing
FROM channel c
JOIN shard_group s ON s.shard = c.shard AND s.grp = 0 AND s.judged_until IS NOT NULL
JOIN retained_from r ON r.level = 'hour'
CROSS JOIN LATERAL (
    SELECT range_agg(tstzrange(
        greatest(w.since, r.start_time),
        greatest(w.since, r.start_time, least(coalesce(w.until, s.judged_until), s.judged_until))
    )) AS time
    FROM wanted w
    WHERE w.channel_id = c.channel_id AND w.since < s.judged_until
) wanted
CROSS JOIN LATERAL (
    SELECT coalesce(
        range_agg(tstzrange(v.since, greatest(v.since, coalesce(v.until, h.until, v.since)))),
        '{}'::tstzmultirange
    ) AS time
    FROM coverage v
    LEFT JOIN heard h ON v.until IS NULL AND h.shard = v.shard AND h.instance = v.instance AND h.connection = v.connection
    WHERE v.channel_id = c.channel_id
) covered
CROSS JOIN LATERAL unnest(wanted.time - covered.time) AS g (hole);
