-- Single events, and what was wanted and heard.

CREATE TABLE phrase_match (
    phrase_id  bigint      NOT NULL,
    sent_at    timestamptz NOT NULL,
    key        uuid        NOT NULL,
    channel_id bigint      NOT NULL,
    chatter_id bigint      NOT NULL,
    matches    bigint      NOT NULL,
    text       text        NOT NULL,
    PRIMARY KEY (phrase_id, sent_at, key)
) PARTITION BY RANGE (sent_at);
COMMENT ON TABLE phrase_match IS 'Messages that matched a phrase whose logMessages is set; partitioned by month';
COMMENT ON COLUMN phrase_match.phrase_id IS 'Phrase: see phrase';
COMMENT ON COLUMN phrase_match.sent_at IS 'Twitch''s time of the message';
COMMENT ON COLUMN phrase_match.key IS 'Event key: Twitch''s message id';
COMMENT ON COLUMN phrase_match.channel_id IS 'Channel: Twitch''s room-id';
COMMENT ON COLUMN phrase_match.chatter_id IS 'Who wrote it: Twitch''s user-id';
COMMENT ON COLUMN phrase_match.matches IS 'Non-overlapping matches in the message';
COMMENT ON COLUMN phrase_match.text IS 'The message, without the ACTION wrapper';

CREATE TABLE chat_event (
    channel_id bigint      NOT NULL,
    sent_at    timestamptz NOT NULL,
    key        uuid        NOT NULL,
    kind       text        NOT NULL,
    chatter_id bigint,
    target_id  bigint,
    amount     bigint      NOT NULL,
    text       text        NOT NULL,
    PRIMARY KEY (channel_id, sent_at, key)
) PARTITION BY RANGE (sent_at);
COMMENT ON TABLE chat_event IS 'Subs, gifts, raids, announcements, moderation, room state; partitioned by month';
COMMENT ON COLUMN chat_event.channel_id IS 'Channel: Twitch''s room-id';
COMMENT ON COLUMN chat_event.sent_at IS 'Twitch''s time of the event';
COMMENT ON COLUMN chat_event.key IS 'Event key: Twitch''s message id, else a hash of what identifies the event';
COMMENT ON COLUMN chat_event.kind IS 'sub, resub, sub_gift, raid, timeout, ban, deletion, …: a closed list, see the docs';
COMMENT ON COLUMN chat_event.chatter_id IS 'Who did it: Twitch''s user-id; null: not said';
COMMENT ON COLUMN chat_event.target_id IS 'To whom: Twitch''s user-id; null: nobody or not said';
COMMENT ON COLUMN chat_event.amount IS 'Months, gifts, raiders, seconds: what the kind''s definition says; 0: nothing';
COMMENT ON COLUMN chat_event.text IS 'What was written beside it, a login, a plan: what the kind''s definition says';

CREATE TABLE wanted (
    channel_id bigint      NOT NULL,
    since      timestamptz NOT NULL,
    until      timestamptz CHECK (until > since),
    login      text        NOT NULL,
    shard      smallint    NOT NULL,
    PRIMARY KEY (channel_id, since)
);
CREATE INDEX wanted_open ON wanted (shard) WHERE until IS NULL;
COMMENT ON TABLE wanted IS 'When each channel was to be heard, from directives';
COMMENT ON COLUMN wanted.channel_id IS 'Channel: Twitch''s room-id';
COMMENT ON COLUMN wanted.since IS 'From when it was asked for';
COMMENT ON COLUMN wanted.until IS 'Until when; null: it still is';
COMMENT ON COLUMN wanted.login IS 'The login under which it was asked for';
COMMENT ON COLUMN wanted.shard IS 'The shard that counts the channel';

CREATE TABLE heard (
    shard      smallint    NOT NULL,
    instance   bigint      NOT NULL,
    connection bigint      NOT NULL,
    until      timestamptz NOT NULL,
    PRIMARY KEY (shard, instance, connection)
) WITH (fillfactor = 50);
COMMENT ON TABLE heard IS 'Until when each connection was surely heard: the end of its open coverage';
COMMENT ON COLUMN heard.shard IS 'The shard in whose stream it speaks';
COMMENT ON COLUMN heard.instance IS 'Random id of the ingest instance, as a signed number';
COMMENT ON COLUMN heard.connection IS 'The instance''s connection, from 1, never used twice';
COMMENT ON COLUMN heard.until IS 'Twitch''s time up to which nothing was missed';

CREATE TABLE coverage (
    channel_id bigint      NOT NULL,
    instance   bigint      NOT NULL,
    connection bigint      NOT NULL,
    since      timestamptz NOT NULL,
    until      timestamptz CHECK (until > since),
    shard      smallint    NOT NULL,
    PRIMARY KEY (channel_id, since, instance, connection)
);
CREATE INDEX coverage_open ON coverage (shard, instance, connection, channel_id) WHERE until IS NULL;
COMMENT ON TABLE coverage IS 'Intervals of Twitch''s time in which a channel was heard, and by which connection';
COMMENT ON COLUMN coverage.channel_id IS 'Channel: Twitch''s room-id';
COMMENT ON COLUMN coverage.instance IS 'Random id of the ingest instance, as a signed number';
COMMENT ON COLUMN coverage.connection IS 'The instance''s connection';
COMMENT ON COLUMN coverage.since IS 'From when it was heard';
COMMENT ON COLUMN coverage.until IS 'Until when; null: open, its end is heard.until';
COMMENT ON COLUMN coverage.shard IS 'The shard that counts the channel';

CREATE VIEW gap AS
SELECT c.channel_id, c.login, lower(g.hole) AS since, upper(g.hole) AS until, upper(g.hole) = s.judged_until AS ongoing
FROM channel c
JOIN shard_group s ON s.shard = c.shard AND s.grp = 0 AND s.judged_until IS NOT NULL
CROSS JOIN LATERAL (
    SELECT range_agg(tstzrange(w.since, least(coalesce(w.until, s.judged_until), s.judged_until))) AS time
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
COMMENT ON VIEW gap IS 'When a channel was wanted and not covered, judged as far as its shard may judge';
COMMENT ON COLUMN gap.channel_id IS 'Channel: Twitch''s room-id';
COMMENT ON COLUMN gap.login IS 'The login that was seen last';
COMMENT ON COLUMN gap.since IS 'From when it was not heard';
COMMENT ON COLUMN gap.until IS 'Until when';
COMMENT ON COLUMN gap.ongoing IS 'Whether the gap reaches up to what may be judged: it may still grow';
