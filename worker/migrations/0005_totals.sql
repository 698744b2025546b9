-- All-time totals, right at any moment without a counter that every commit would touch:
-- what retention folded + days that are up to date + hours that are up to date of days that are not + minutes of hours
-- that are not. A window is up to date exactly while `dirty` has no row for it; a dirty hour lies in a dirty day.

CREATE VIEW channel_total AS
SELECT t.channel_id,
    sum(t.messages)::bigint AS messages,
    sum(t.characters)::bigint AS characters,
    sum(t.words)::bigint AS words,
    sum(t.emotes)::bigint AS emotes,
    sum(t.bits)::bigint AS bits,
    sum(t.first_time_chatters)::bigint AS first_time_chatters,
    sum(t.subs)::bigint AS subs,
    sum(t.gifts)::bigint AS gifts,
    sum(t.raids)::bigint AS raids,
    sum(t.timeouts)::bigint AS timeouts,
    sum(t.bans)::bigint AS bans,
    sum(t.deletions)::bigint AS deletions,
    sum(t.mirrored)::bigint AS mirrored
FROM (
    SELECT f.channel_id, f.messages, f.characters, f.words, f.emotes, f.bits, f.first_time_chatters, f.subs,
           f.gifts, f.raids, f.timeouts, f.bans, f.deletions, f.mirrored
    FROM channel_folded f
    UNION ALL
    SELECT d.channel_id, d.messages, d.characters, d.words, d.emotes, d.bits, d.first_time_chatters, d.subs,
           d.gifts, d.raids, d.timeouts, d.bans, d.deletions, d.mirrored
    FROM channel_day d
    JOIN channel c USING (channel_id)
    WHERE NOT EXISTS (
        SELECT FROM dirty x WHERE x.shard = c.shard AND x.level = 'day' AND x.window_start = d.day
    )
    UNION ALL
    SELECT h.channel_id, h.messages, h.characters, h.words, h.emotes, h.bits, h.first_time_chatters, h.subs,
           h.gifts, h.raids, h.timeouts, h.bans, h.deletions, h.mirrored
    FROM dirty y
    JOIN channel_hour h ON h.hour >= y.window_start AND h.hour < y.window_start + interval '24 hours'
    JOIN channel c ON c.channel_id = h.channel_id AND c.shard = y.shard
    WHERE y.level = 'day' AND NOT EXISTS (
        SELECT FROM dirty x WHERE x.shard = y.shard AND x.level = 'hour' AND x.window_start = h.hour
    )
    UNION ALL
    SELECT m.channel_id, m.messages, m.characters, m.words, m.emotes, m.bits, m.first_time_chatters, m.subs,
           m.gifts, m.raids, m.timeouts, m.bans, m.deletions, m.mirrored
    FROM dirty y
    JOIN channel_minute m ON m.minute >= y.window_start AND m.minute < y.window_start + interval '1 hour'
    JOIN channel c ON c.channel_id = m.channel_id AND c.shard = y.shard
    WHERE y.level = 'hour'
) t
GROUP BY t.channel_id;
COMMENT ON VIEW channel_total IS 'All-time counts per channel, open windows included';
COMMENT ON COLUMN channel_total.channel_id IS 'Channel: Twitch''s room-id';
COMMENT ON COLUMN channel_total.messages IS 'Messages (PRIVMSG) written in the channel, without mirrored copies of shared chat';
COMMENT ON COLUMN channel_total.characters IS 'Code points of those messages, without the ACTION wrapper';
COMMENT ON COLUMN channel_total.words IS 'Words of those messages: split at white space, U+E0000 ignored';
COMMENT ON COLUMN channel_total.emotes IS 'Emote occurrences in those messages';
COMMENT ON COLUMN channel_total.bits IS 'Bits cheered';
COMMENT ON COLUMN channel_total.first_time_chatters IS 'Messages that Twitch marks as their chatter''s first in the channel';
COMMENT ON COLUMN channel_total.subs IS 'Subscriptions and resubscriptions announced';
COMMENT ON COLUMN channel_total.gifts IS 'Gifted subscriptions, counted by recipient';
COMMENT ON COLUMN channel_total.raids IS 'Incoming raids';
COMMENT ON COLUMN channel_total.timeouts IS 'Chatters timed out';
COMMENT ON COLUMN channel_total.bans IS 'Chatters banned';
COMMENT ON COLUMN channel_total.deletions IS 'Single messages deleted';
COMMENT ON COLUMN channel_total.mirrored IS 'Messages of other channels mirrored here by shared chat; in no other measure';

CREATE VIEW emote_total AS
SELECT t.channel_id, t.emote_id,
    sum(t.occurrences)::bigint AS occurrences,
    sum(t.messages)::bigint AS messages
FROM (
    SELECT f.channel_id, f.emote_id, f.occurrences, f.messages
    FROM emote_folded f
    UNION ALL
    SELECT d.channel_id, d.emote_id, d.occurrences, d.messages
    FROM emote_day d
    JOIN channel c USING (channel_id)
    WHERE NOT EXISTS (
        SELECT FROM dirty x WHERE x.shard = c.shard AND x.level = 'day' AND x.window_start = d.day
    )
    UNION ALL
    SELECT h.channel_id, h.emote_id, h.occurrences, h.messages
    FROM dirty y
    JOIN emote_hour h ON h.hour >= y.window_start AND h.hour < y.window_start + interval '24 hours'
    JOIN channel c ON c.channel_id = h.channel_id AND c.shard = y.shard
    WHERE y.level = 'day' AND NOT EXISTS (
        SELECT FROM dirty x WHERE x.shard = y.shard AND x.level = 'hour' AND x.window_start = h.hour
    )
    UNION ALL
    SELECT m.channel_id, m.emote_id, m.occurrences, m.messages
    FROM dirty y
    JOIN emote_minute m ON m.minute >= y.window_start AND m.minute < y.window_start + interval '1 hour'
    JOIN channel c ON c.channel_id = m.channel_id AND c.shard = y.shard
    WHERE y.level = 'hour'
) t
GROUP BY t.channel_id, t.emote_id;
COMMENT ON VIEW emote_total IS 'All-time counts per channel and emote, open windows included';
COMMENT ON COLUMN emote_total.channel_id IS 'Channel: Twitch''s room-id';
COMMENT ON COLUMN emote_total.emote_id IS 'Emote: see emote';
COMMENT ON COLUMN emote_total.occurrences IS 'How often it was written';
COMMENT ON COLUMN emote_total.messages IS 'Messages with at least one occurrence';

CREATE VIEW phrase_total AS
SELECT t.channel_id, t.phrase_id,
    sum(t.matches)::bigint AS matches,
    sum(t.messages)::bigint AS messages
FROM (
    SELECT f.channel_id, f.phrase_id, f.matches, f.messages
    FROM phrase_folded f
    UNION ALL
    SELECT d.channel_id, d.phrase_id, d.matches, d.messages
    FROM phrase_day d
    JOIN channel c USING (channel_id)
    WHERE NOT EXISTS (
        SELECT FROM dirty x WHERE x.shard = c.shard AND x.level = 'day' AND x.window_start = d.day
    )
    UNION ALL
    SELECT h.channel_id, h.phrase_id, h.matches, h.messages
    FROM dirty y
    JOIN phrase_hour h ON h.hour >= y.window_start AND h.hour < y.window_start + interval '24 hours'
    JOIN channel c ON c.channel_id = h.channel_id AND c.shard = y.shard
    WHERE y.level = 'day' AND NOT EXISTS (
        SELECT FROM dirty x WHERE x.shard = y.shard AND x.level = 'hour' AND x.window_start = h.hour
    )
    UNION ALL
    SELECT m.channel_id, m.phrase_id, m.matches, m.messages
    FROM dirty y
    JOIN phrase_minute m ON m.minute >= y.window_start AND m.minute < y.window_start + interval '1 hour'
    JOIN channel c ON c.channel_id = m.channel_id AND c.shard = y.shard
    WHERE y.level = 'hour'
) t
GROUP BY t.channel_id, t.phrase_id;
COMMENT ON VIEW phrase_total IS 'All-time counts per channel and phrase, open windows included';
COMMENT ON COLUMN phrase_total.channel_id IS 'Channel: Twitch''s room-id';
COMMENT ON COLUMN phrase_total.phrase_id IS 'Phrase: see phrase';
COMMENT ON COLUMN phrase_total.matches IS 'Non-overlapping matches';
COMMENT ON COLUMN phrase_total.messages IS 'Messages with at least one match';

CREATE VIEW chatter_total AS
SELECT t.channel_id, t.chatter_id,
    sum(t.messages)::bigint AS messages,
    sum(t.characters)::bigint AS characters,
    sum(t.words)::bigint AS words,
    sum(t.emotes)::bigint AS emotes,
    sum(t.bits)::bigint AS bits
FROM (
    SELECT f.channel_id, f.chatter_id, f.messages, f.characters, f.words, f.emotes, f.bits
    FROM chatter_folded f
    UNION ALL
    SELECT d.channel_id, d.chatter_id, d.messages, d.characters, d.words, d.emotes, d.bits
    FROM chatter_day d
    JOIN channel c USING (channel_id)
    WHERE NOT EXISTS (
        SELECT FROM dirty x WHERE x.shard = c.shard AND x.level = 'day' AND x.window_start = d.day
    )
    UNION ALL
    SELECT h.channel_id, h.chatter_id, h.messages, h.characters, h.words, h.emotes, h.bits
    FROM dirty y
    JOIN chatter_hour h ON h.hour >= y.window_start AND h.hour < y.window_start + interval '24 hours'
    JOIN channel c ON c.channel_id = h.channel_id AND c.shard = y.shard
    WHERE y.level = 'day'
) t
GROUP BY t.channel_id, t.chatter_id;
COMMENT ON VIEW chatter_total IS 'All-time counts per channel and chatter, open windows included';
COMMENT ON COLUMN chatter_total.channel_id IS 'Channel: Twitch''s room-id';
COMMENT ON COLUMN chatter_total.chatter_id IS 'Chatter: Twitch''s user-id';
COMMENT ON COLUMN chatter_total.messages IS 'Messages written';
COMMENT ON COLUMN chatter_total.characters IS 'Code points of those messages, without the ACTION wrapper';
COMMENT ON COLUMN chatter_total.words IS 'Words of those messages: split at white space, U+E0000 ignored';
COMMENT ON COLUMN chatter_total.emotes IS 'Emote occurrences in those messages';
COMMENT ON COLUMN chatter_total.bits IS 'Bits cheered';

CREATE VIEW chatter_emote_total AS
SELECT t.channel_id, t.chatter_id, t.emote_id,
    sum(t.occurrences)::bigint AS occurrences
FROM (
    SELECT f.channel_id, f.chatter_id, f.emote_id, f.occurrences
    FROM chatter_emote_folded f
    UNION ALL
    SELECT d.channel_id, d.chatter_id, d.emote_id, d.occurrences
    FROM chatter_emote_day d
) t
GROUP BY t.channel_id, t.chatter_id, t.emote_id;
COMMENT ON VIEW chatter_emote_total IS 'All-time counts per channel, chatter and emote, open windows included';
COMMENT ON COLUMN chatter_emote_total.channel_id IS 'Channel: Twitch''s room-id';
COMMENT ON COLUMN chatter_emote_total.chatter_id IS 'Chatter: Twitch''s user-id';
COMMENT ON COLUMN chatter_emote_total.emote_id IS 'Emote: see emote';
COMMENT ON COLUMN chatter_emote_total.occurrences IS 'How often the chatter wrote the emote';
