-- Counters. Windows are named by their start, UTC. Primary keys only, and partitions are made with fillfactor 70: nearly
-- every write is an addition to a row that is there, and stays on its page without touching an index (a HOT update).
-- No DEFAULT partition: it forbids detaching concurrently. The worker makes partitions ahead, and on demand.

CREATE TABLE channel_minute (
    channel_id          bigint NOT NULL,
    minute              timestamptz NOT NULL,
    messages            bigint NOT NULL DEFAULT 0,
    characters          bigint NOT NULL DEFAULT 0,
    words               bigint NOT NULL DEFAULT 0,
    emotes              bigint NOT NULL DEFAULT 0,
    bits                bigint NOT NULL DEFAULT 0,
    first_time_chatters bigint NOT NULL DEFAULT 0,
    subs                bigint NOT NULL DEFAULT 0,
    gifts               bigint NOT NULL DEFAULT 0,
    raids               bigint NOT NULL DEFAULT 0,
    timeouts            bigint NOT NULL DEFAULT 0,
    bans                bigint NOT NULL DEFAULT 0,
    deletions           bigint NOT NULL DEFAULT 0,
    mirrored            bigint NOT NULL DEFAULT 0,
    unique_chatters     bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (channel_id, minute)
) PARTITION BY RANGE (minute);
COMMENT ON TABLE channel_minute IS 'Counts per channel and minute; partitioned by day';
COMMENT ON COLUMN channel_minute.channel_id IS 'Channel: Twitch''s room-id';
COMMENT ON COLUMN channel_minute.minute IS 'Start of the minute, UTC';
COMMENT ON COLUMN channel_minute.messages IS 'Messages (PRIVMSG) written in the channel, without mirrored copies of shared chat';
COMMENT ON COLUMN channel_minute.characters IS 'Code points of those messages, without the ACTION wrapper';
COMMENT ON COLUMN channel_minute.words IS 'Words of those messages: split at white space, U+E0000 ignored';
COMMENT ON COLUMN channel_minute.emotes IS 'Emote occurrences in those messages';
COMMENT ON COLUMN channel_minute.bits IS 'Bits cheered';
COMMENT ON COLUMN channel_minute.first_time_chatters IS 'Messages that Twitch marks as their chatter''s first in the channel';
COMMENT ON COLUMN channel_minute.subs IS 'Subscriptions and resubscriptions announced';
COMMENT ON COLUMN channel_minute.gifts IS 'Gifted subscriptions, counted by recipient';
COMMENT ON COLUMN channel_minute.raids IS 'Incoming raids';
COMMENT ON COLUMN channel_minute.timeouts IS 'Chatters timed out';
COMMENT ON COLUMN channel_minute.bans IS 'Chatters banned';
COMMENT ON COLUMN channel_minute.deletions IS 'Single messages deleted';
COMMENT ON COLUMN channel_minute.mirrored IS 'Messages of other channels mirrored here by shared chat; in no other measure';
COMMENT ON COLUMN channel_minute.unique_chatters IS 'Distinct user-ids that wrote a message in the minute';

CREATE TABLE channel_minute_chatters (
    channel_id  bigint      NOT NULL,
    minute      timestamptz NOT NULL,
    chatter_ids bigint[]    NOT NULL,
    PRIMARY KEY (channel_id, minute)
) PARTITION BY RANGE (minute);
COMMENT ON TABLE channel_minute_chatters IS
    'Who wrote in a minute that has left the horizon of duplicates: late messages are merged; partitioned by day';
COMMENT ON COLUMN channel_minute_chatters.channel_id IS 'Channel: Twitch''s room-id';
COMMENT ON COLUMN channel_minute_chatters.minute IS 'Start of the minute, UTC';
COMMENT ON COLUMN channel_minute_chatters.chatter_ids IS 'Distinct user-ids, ascending';

CREATE TABLE channel_hour (
    channel_id          bigint NOT NULL,
    hour                timestamptz NOT NULL,
    messages            bigint NOT NULL DEFAULT 0,
    characters          bigint NOT NULL DEFAULT 0,
    words               bigint NOT NULL DEFAULT 0,
    emotes              bigint NOT NULL DEFAULT 0,
    bits                bigint NOT NULL DEFAULT 0,
    first_time_chatters bigint NOT NULL DEFAULT 0,
    subs                bigint NOT NULL DEFAULT 0,
    gifts               bigint NOT NULL DEFAULT 0,
    raids               bigint NOT NULL DEFAULT 0,
    timeouts            bigint NOT NULL DEFAULT 0,
    bans                bigint NOT NULL DEFAULT 0,
    deletions           bigint NOT NULL DEFAULT 0,
    mirrored            bigint NOT NULL DEFAULT 0,
    unique_chatters     bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (channel_id, hour)
) PARTITION BY RANGE (hour);
COMMENT ON TABLE channel_hour IS 'Counts per channel and hour; partitioned by month';
COMMENT ON COLUMN channel_hour.channel_id IS 'Channel: Twitch''s room-id';
COMMENT ON COLUMN channel_hour.hour IS 'Start of the hour, UTC';
COMMENT ON COLUMN channel_hour.messages IS 'Messages (PRIVMSG) written in the channel, without mirrored copies of shared chat';
COMMENT ON COLUMN channel_hour.characters IS 'Code points of those messages, without the ACTION wrapper';
COMMENT ON COLUMN channel_hour.words IS 'Words of those messages: split at white space, U+E0000 ignored';
COMMENT ON COLUMN channel_hour.emotes IS 'Emote occurrences in those messages';
COMMENT ON COLUMN channel_hour.bits IS 'Bits cheered';
COMMENT ON COLUMN channel_hour.first_time_chatters IS 'Messages that Twitch marks as their chatter''s first in the channel';
COMMENT ON COLUMN channel_hour.subs IS 'Subscriptions and resubscriptions announced';
COMMENT ON COLUMN channel_hour.gifts IS 'Gifted subscriptions, counted by recipient';
COMMENT ON COLUMN channel_hour.raids IS 'Incoming raids';
COMMENT ON COLUMN channel_hour.timeouts IS 'Chatters timed out';
COMMENT ON COLUMN channel_hour.bans IS 'Chatters banned';
COMMENT ON COLUMN channel_hour.deletions IS 'Single messages deleted';
COMMENT ON COLUMN channel_hour.mirrored IS 'Messages of other channels mirrored here by shared chat; in no other measure';
COMMENT ON COLUMN channel_hour.unique_chatters IS 'Distinct user-ids that wrote a message in the hour';

CREATE TABLE channel_day (
    channel_id          bigint NOT NULL,
    day                 timestamptz NOT NULL,
    messages            bigint NOT NULL DEFAULT 0,
    characters          bigint NOT NULL DEFAULT 0,
    words               bigint NOT NULL DEFAULT 0,
    emotes              bigint NOT NULL DEFAULT 0,
    bits                bigint NOT NULL DEFAULT 0,
    first_time_chatters bigint NOT NULL DEFAULT 0,
    subs                bigint NOT NULL DEFAULT 0,
    gifts               bigint NOT NULL DEFAULT 0,
    raids               bigint NOT NULL DEFAULT 0,
    timeouts            bigint NOT NULL DEFAULT 0,
    bans                bigint NOT NULL DEFAULT 0,
    deletions           bigint NOT NULL DEFAULT 0,
    mirrored            bigint NOT NULL DEFAULT 0,
    unique_chatters     bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (channel_id, day)
) PARTITION BY RANGE (day);
COMMENT ON TABLE channel_day IS 'Counts per channel and day; partitioned by month';
COMMENT ON COLUMN channel_day.channel_id IS 'Channel: Twitch''s room-id';
COMMENT ON COLUMN channel_day.day IS 'Start of the day, UTC';
COMMENT ON COLUMN channel_day.messages IS 'Messages (PRIVMSG) written in the channel, without mirrored copies of shared chat';
COMMENT ON COLUMN channel_day.characters IS 'Code points of those messages, without the ACTION wrapper';
COMMENT ON COLUMN channel_day.words IS 'Words of those messages: split at white space, U+E0000 ignored';
COMMENT ON COLUMN channel_day.emotes IS 'Emote occurrences in those messages';
COMMENT ON COLUMN channel_day.bits IS 'Bits cheered';
COMMENT ON COLUMN channel_day.first_time_chatters IS 'Messages that Twitch marks as their chatter''s first in the channel';
COMMENT ON COLUMN channel_day.subs IS 'Subscriptions and resubscriptions announced';
COMMENT ON COLUMN channel_day.gifts IS 'Gifted subscriptions, counted by recipient';
COMMENT ON COLUMN channel_day.raids IS 'Incoming raids';
COMMENT ON COLUMN channel_day.timeouts IS 'Chatters timed out';
COMMENT ON COLUMN channel_day.bans IS 'Chatters banned';
COMMENT ON COLUMN channel_day.deletions IS 'Single messages deleted';
COMMENT ON COLUMN channel_day.mirrored IS 'Messages of other channels mirrored here by shared chat; in no other measure';
COMMENT ON COLUMN channel_day.unique_chatters IS 'Distinct user-ids that wrote a message in the day';

CREATE TABLE channel_folded (
    channel_id          bigint NOT NULL,
    messages            bigint NOT NULL DEFAULT 0,
    characters          bigint NOT NULL DEFAULT 0,
    words               bigint NOT NULL DEFAULT 0,
    emotes              bigint NOT NULL DEFAULT 0,
    bits                bigint NOT NULL DEFAULT 0,
    first_time_chatters bigint NOT NULL DEFAULT 0,
    subs                bigint NOT NULL DEFAULT 0,
    gifts               bigint NOT NULL DEFAULT 0,
    raids               bigint NOT NULL DEFAULT 0,
    timeouts            bigint NOT NULL DEFAULT 0,
    bans                bigint NOT NULL DEFAULT 0,
    deletions           bigint NOT NULL DEFAULT 0,
    mirrored            bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (channel_id)
) WITH (fillfactor = 70);
COMMENT ON TABLE channel_folded IS 'What retention dropped from channel_day, summed per channel: the view channel_total adds it';
COMMENT ON COLUMN channel_folded.channel_id IS 'Channel: Twitch''s room-id';
COMMENT ON COLUMN channel_folded.messages IS 'Messages (PRIVMSG) written in the channel, without mirrored copies of shared chat';
COMMENT ON COLUMN channel_folded.characters IS 'Code points of those messages, without the ACTION wrapper';
COMMENT ON COLUMN channel_folded.words IS 'Words of those messages: split at white space, U+E0000 ignored';
COMMENT ON COLUMN channel_folded.emotes IS 'Emote occurrences in those messages';
COMMENT ON COLUMN channel_folded.bits IS 'Bits cheered';
COMMENT ON COLUMN channel_folded.first_time_chatters IS 'Messages that Twitch marks as their chatter''s first in the channel';
COMMENT ON COLUMN channel_folded.subs IS 'Subscriptions and resubscriptions announced';
COMMENT ON COLUMN channel_folded.gifts IS 'Gifted subscriptions, counted by recipient';
COMMENT ON COLUMN channel_folded.raids IS 'Incoming raids';
COMMENT ON COLUMN channel_folded.timeouts IS 'Chatters timed out';
COMMENT ON COLUMN channel_folded.bans IS 'Chatters banned';
COMMENT ON COLUMN channel_folded.deletions IS 'Single messages deleted';
COMMENT ON COLUMN channel_folded.mirrored IS 'Messages of other channels mirrored here by shared chat; in no other measure';

CREATE TABLE emote_minute (
    channel_id  bigint NOT NULL,
    minute      timestamptz NOT NULL,
    emote_id    bigint NOT NULL,
    occurrences bigint NOT NULL DEFAULT 0,
    messages    bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (channel_id, minute, emote_id)
) PARTITION BY RANGE (minute);
COMMENT ON TABLE emote_minute IS 'Counts per channel and emote and minute; partitioned by day';
COMMENT ON COLUMN emote_minute.channel_id IS 'Channel: Twitch''s room-id';
COMMENT ON COLUMN emote_minute.minute IS 'Start of the minute, UTC';
COMMENT ON COLUMN emote_minute.emote_id IS 'Emote: see emote';
COMMENT ON COLUMN emote_minute.occurrences IS 'How often it was written';
COMMENT ON COLUMN emote_minute.messages IS 'Messages with at least one occurrence';

CREATE TABLE emote_hour (
    channel_id  bigint NOT NULL,
    hour        timestamptz NOT NULL,
    emote_id    bigint NOT NULL,
    occurrences bigint NOT NULL DEFAULT 0,
    messages    bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (channel_id, hour, emote_id)
) PARTITION BY RANGE (hour);
COMMENT ON TABLE emote_hour IS 'Counts per channel and emote and hour; partitioned by month';
COMMENT ON COLUMN emote_hour.channel_id IS 'Channel: Twitch''s room-id';
COMMENT ON COLUMN emote_hour.hour IS 'Start of the hour, UTC';
COMMENT ON COLUMN emote_hour.emote_id IS 'Emote: see emote';
COMMENT ON COLUMN emote_hour.occurrences IS 'How often it was written';
COMMENT ON COLUMN emote_hour.messages IS 'Messages with at least one occurrence';

CREATE TABLE emote_day (
    channel_id  bigint NOT NULL,
    day         timestamptz NOT NULL,
    emote_id    bigint NOT NULL,
    occurrences bigint NOT NULL DEFAULT 0,
    messages    bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (channel_id, day, emote_id)
) PARTITION BY RANGE (day);
COMMENT ON TABLE emote_day IS 'Counts per channel and emote and day; partitioned by month';
COMMENT ON COLUMN emote_day.channel_id IS 'Channel: Twitch''s room-id';
COMMENT ON COLUMN emote_day.day IS 'Start of the day, UTC';
COMMENT ON COLUMN emote_day.emote_id IS 'Emote: see emote';
COMMENT ON COLUMN emote_day.occurrences IS 'How often it was written';
COMMENT ON COLUMN emote_day.messages IS 'Messages with at least one occurrence';

CREATE TABLE emote_folded (
    channel_id  bigint NOT NULL,
    emote_id    bigint NOT NULL,
    occurrences bigint NOT NULL DEFAULT 0,
    messages    bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (channel_id, emote_id)
) WITH (fillfactor = 70);
COMMENT ON TABLE emote_folded IS 'What retention dropped from emote_day, summed per channel and emote: the view emote_total adds it';
COMMENT ON COLUMN emote_folded.channel_id IS 'Channel: Twitch''s room-id';
COMMENT ON COLUMN emote_folded.emote_id IS 'Emote: see emote';
COMMENT ON COLUMN emote_folded.occurrences IS 'How often it was written';
COMMENT ON COLUMN emote_folded.messages IS 'Messages with at least one occurrence';

CREATE TABLE phrase_minute (
    channel_id bigint NOT NULL,
    minute     timestamptz NOT NULL,
    phrase_id  bigint NOT NULL,
    matches    bigint NOT NULL DEFAULT 0,
    messages   bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (channel_id, minute, phrase_id)
) PARTITION BY RANGE (minute);
COMMENT ON TABLE phrase_minute IS 'Counts per channel and phrase and minute; partitioned by day';
COMMENT ON COLUMN phrase_minute.channel_id IS 'Channel: Twitch''s room-id';
COMMENT ON COLUMN phrase_minute.minute IS 'Start of the minute, UTC';
COMMENT ON COLUMN phrase_minute.phrase_id IS 'Phrase: see phrase';
COMMENT ON COLUMN phrase_minute.matches IS 'Non-overlapping matches';
COMMENT ON COLUMN phrase_minute.messages IS 'Messages with at least one match';

CREATE TABLE phrase_hour (
    channel_id bigint NOT NULL,
    hour       timestamptz NOT NULL,
    phrase_id  bigint NOT NULL,
    matches    bigint NOT NULL DEFAULT 0,
    messages   bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (channel_id, hour, phrase_id)
) PARTITION BY RANGE (hour);
COMMENT ON TABLE phrase_hour IS 'Counts per channel and phrase and hour; partitioned by month';
COMMENT ON COLUMN phrase_hour.channel_id IS 'Channel: Twitch''s room-id';
COMMENT ON COLUMN phrase_hour.hour IS 'Start of the hour, UTC';
COMMENT ON COLUMN phrase_hour.phrase_id IS 'Phrase: see phrase';
COMMENT ON COLUMN phrase_hour.matches IS 'Non-overlapping matches';
COMMENT ON COLUMN phrase_hour.messages IS 'Messages with at least one match';

CREATE TABLE phrase_day (
    channel_id bigint NOT NULL,
    day        timestamptz NOT NULL,
    phrase_id  bigint NOT NULL,
    matches    bigint NOT NULL DEFAULT 0,
    messages   bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (channel_id, day, phrase_id)
) PARTITION BY RANGE (day);
COMMENT ON TABLE phrase_day IS 'Counts per channel and phrase and day; partitioned by month';
COMMENT ON COLUMN phrase_day.channel_id IS 'Channel: Twitch''s room-id';
COMMENT ON COLUMN phrase_day.day IS 'Start of the day, UTC';
COMMENT ON COLUMN phrase_day.phrase_id IS 'Phrase: see phrase';
COMMENT ON COLUMN phrase_day.matches IS 'Non-overlapping matches';
COMMENT ON COLUMN phrase_day.messages IS 'Messages with at least one match';

CREATE TABLE phrase_folded (
    channel_id bigint NOT NULL,
    phrase_id  bigint NOT NULL,
    matches    bigint NOT NULL DEFAULT 0,
    messages   bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (channel_id, phrase_id)
) WITH (fillfactor = 70);
COMMENT ON TABLE phrase_folded IS 'What retention dropped from phrase_day, summed per channel and phrase: the view phrase_total adds it';
COMMENT ON COLUMN phrase_folded.channel_id IS 'Channel: Twitch''s room-id';
COMMENT ON COLUMN phrase_folded.phrase_id IS 'Phrase: see phrase';
COMMENT ON COLUMN phrase_folded.matches IS 'Non-overlapping matches';
COMMENT ON COLUMN phrase_folded.messages IS 'Messages with at least one match';

CREATE TABLE chatter_hour (
    channel_id bigint NOT NULL,
    hour       timestamptz NOT NULL,
    chatter_id bigint NOT NULL,
    messages   bigint NOT NULL DEFAULT 0,
    characters bigint NOT NULL DEFAULT 0,
    words      bigint NOT NULL DEFAULT 0,
    emotes     bigint NOT NULL DEFAULT 0,
    bits       bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (channel_id, hour, chatter_id)
) PARTITION BY RANGE (hour);
COMMENT ON TABLE chatter_hour IS 'Counts per channel and chatter and hour; partitioned by month';
COMMENT ON COLUMN chatter_hour.channel_id IS 'Channel: Twitch''s room-id';
COMMENT ON COLUMN chatter_hour.hour IS 'Start of the hour, UTC';
COMMENT ON COLUMN chatter_hour.chatter_id IS 'Chatter: Twitch''s user-id';
COMMENT ON COLUMN chatter_hour.messages IS 'Messages written';
COMMENT ON COLUMN chatter_hour.characters IS 'Code points of those messages, without the ACTION wrapper';
COMMENT ON COLUMN chatter_hour.words IS 'Words of those messages: split at white space, U+E0000 ignored';
COMMENT ON COLUMN chatter_hour.emotes IS 'Emote occurrences in those messages';
COMMENT ON COLUMN chatter_hour.bits IS 'Bits cheered';

CREATE TABLE chatter_day (
    channel_id bigint NOT NULL,
    day        timestamptz NOT NULL,
    chatter_id bigint NOT NULL,
    messages   bigint NOT NULL DEFAULT 0,
    characters bigint NOT NULL DEFAULT 0,
    words      bigint NOT NULL DEFAULT 0,
    emotes     bigint NOT NULL DEFAULT 0,
    bits       bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (channel_id, day, chatter_id)
) PARTITION BY RANGE (day);
COMMENT ON TABLE chatter_day IS 'Counts per channel and chatter and day; partitioned by month';
COMMENT ON COLUMN chatter_day.channel_id IS 'Channel: Twitch''s room-id';
COMMENT ON COLUMN chatter_day.day IS 'Start of the day, UTC';
COMMENT ON COLUMN chatter_day.chatter_id IS 'Chatter: Twitch''s user-id';
COMMENT ON COLUMN chatter_day.messages IS 'Messages written';
COMMENT ON COLUMN chatter_day.characters IS 'Code points of those messages, without the ACTION wrapper';
COMMENT ON COLUMN chatter_day.words IS 'Words of those messages: split at white space, U+E0000 ignored';
COMMENT ON COLUMN chatter_day.emotes IS 'Emote occurrences in those messages';
COMMENT ON COLUMN chatter_day.bits IS 'Bits cheered';

CREATE TABLE chatter_folded (
    channel_id bigint NOT NULL,
    chatter_id bigint NOT NULL,
    messages   bigint NOT NULL DEFAULT 0,
    characters bigint NOT NULL DEFAULT 0,
    words      bigint NOT NULL DEFAULT 0,
    emotes     bigint NOT NULL DEFAULT 0,
    bits       bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (channel_id, chatter_id)
) WITH (fillfactor = 70);
COMMENT ON TABLE chatter_folded IS 'What retention dropped from chatter_day, summed per channel and chatter: the view chatter_total adds it';
COMMENT ON COLUMN chatter_folded.channel_id IS 'Channel: Twitch''s room-id';
COMMENT ON COLUMN chatter_folded.chatter_id IS 'Chatter: Twitch''s user-id';
COMMENT ON COLUMN chatter_folded.messages IS 'Messages written';
COMMENT ON COLUMN chatter_folded.characters IS 'Code points of those messages, without the ACTION wrapper';
COMMENT ON COLUMN chatter_folded.words IS 'Words of those messages: split at white space, U+E0000 ignored';
COMMENT ON COLUMN chatter_folded.emotes IS 'Emote occurrences in those messages';
COMMENT ON COLUMN chatter_folded.bits IS 'Bits cheered';

CREATE TABLE chatter_emote_day (
    channel_id  bigint NOT NULL,
    day         timestamptz NOT NULL,
    chatter_id  bigint NOT NULL,
    emote_id    bigint NOT NULL,
    occurrences bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (channel_id, day, chatter_id, emote_id)
) PARTITION BY RANGE (day);
COMMENT ON TABLE chatter_emote_day IS 'Counts per channel, chatter and emote and day; partitioned by month';
COMMENT ON COLUMN chatter_emote_day.channel_id IS 'Channel: Twitch''s room-id';
COMMENT ON COLUMN chatter_emote_day.day IS 'Start of the day, UTC';
COMMENT ON COLUMN chatter_emote_day.chatter_id IS 'Chatter: Twitch''s user-id';
COMMENT ON COLUMN chatter_emote_day.emote_id IS 'Emote: see emote';
COMMENT ON COLUMN chatter_emote_day.occurrences IS 'How often the chatter wrote the emote';

CREATE TABLE chatter_emote_folded (
    channel_id  bigint NOT NULL,
    chatter_id  bigint NOT NULL,
    emote_id    bigint NOT NULL,
    occurrences bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (channel_id, chatter_id, emote_id)
) WITH (fillfactor = 70);
COMMENT ON TABLE chatter_emote_folded IS 'What retention dropped from chatter_emote_day, summed per channel, chatter and emote: the view chatter_emote_total adds it';
COMMENT ON COLUMN chatter_emote_folded.channel_id IS 'Channel: Twitch''s room-id';
COMMENT ON COLUMN chatter_emote_folded.chatter_id IS 'Chatter: Twitch''s user-id';
COMMENT ON COLUMN chatter_emote_folded.emote_id IS 'Emote: see emote';
COMMENT ON COLUMN chatter_emote_folded.occurrences IS 'How often the chatter wrote the emote';
