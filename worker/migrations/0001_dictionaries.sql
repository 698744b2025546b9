-- What ids stand for. A name is replaced only by a later event's.

CREATE TABLE store_meta (
    singleton boolean  PRIMARY KEY DEFAULT true CHECK (singleton),
    shards    smallint NOT NULL CHECK (shards BETWEEN 1 AND 256)
);
COMMENT ON TABLE store_meta IS 'What holds for the whole store: one row';
COMMENT ON COLUMN store_meta.singleton IS 'Always true: there is one row';
COMMENT ON COLUMN store_meta.shards IS 'Number of shards of the pipeline, a power of two; fixed for ever';

CREATE TABLE channel (
    channel_id bigint PRIMARY KEY,
    login      text,
    login_at   timestamptz,
    shard      smallint NOT NULL
) WITH (fillfactor = 90);
CREATE INDEX channel_shard ON channel (shard);
CREATE INDEX channel_login ON channel (login);
COMMENT ON TABLE channel IS 'Channels: Twitch chat rooms; a row for every channel that any other table names';
COMMENT ON COLUMN channel.channel_id IS 'Twitch''s room-id';
COMMENT ON COLUMN channel.login IS 'The login that was seen last; logins change; null: not seen yet';
COMMENT ON COLUMN channel.login_at IS 'Time of the event that named it so';
COMMENT ON COLUMN channel.shard IS 'The shard that counts it';

CREATE TABLE chatter (
    chatter_id   bigint      PRIMARY KEY,
    login        text        NOT NULL,
    display_name text        NOT NULL,
    name_at      timestamptz NOT NULL
) WITH (fillfactor = 90);
CREATE INDEX chatter_login ON chatter (login);
COMMENT ON TABLE chatter IS 'People who write';
COMMENT ON COLUMN chatter.chatter_id IS 'Twitch''s user-id';
COMMENT ON COLUMN chatter.login IS 'The login that was seen last';
COMMENT ON COLUMN chatter.display_name IS 'The display name that was seen last; empty: the login, whatever the case of its letters';
COMMENT ON COLUMN chatter.name_at IS 'Time of the event that named them so';

CREATE TABLE emote (
    emote_id    bigint      PRIMARY KEY,
    provider    text        NOT NULL,
    provider_id text        NOT NULL,
    name        text        NOT NULL,
    name_at     timestamptz NOT NULL
) WITH (fillfactor = 90);
CREATE INDEX emote_name ON emote (name);
COMMENT ON TABLE emote IS 'Emotes';
COMMENT ON COLUMN emote.emote_id IS 'Hash of provider and provider_id, as a signed number';
COMMENT ON COLUMN emote.provider IS 'Who has the emote: twitch, bttv, ffz, 7tv';
COMMENT ON COLUMN emote.provider_id IS 'The provider''s id of it';
COMMENT ON COLUMN emote.name IS 'What chatters type, as seen last';
COMMENT ON COLUMN emote.name_at IS 'Time of the event that named it so';

CREATE TABLE phrase (
    phrase_id      bigint  PRIMARY KEY,
    name           text    NOT NULL,
    pattern        text    NOT NULL,
    case_sensitive boolean NOT NULL
);
CREATE INDEX phrase_name ON phrase (name);
COMMENT ON TABLE phrase IS 'Phrases; a changed pattern is a new row, so its counts never mix with the old one''s';
COMMENT ON COLUMN phrase.phrase_id IS 'Hash of name, pattern and case_sensitive, as a signed number';
COMMENT ON COLUMN phrase.name IS 'Name of the Phrase resource';
COMMENT ON COLUMN phrase.pattern IS 'Regular expression, in the syntax of the regex crate';
COMMENT ON COLUMN phrase.case_sensitive IS 'Whether case matters';
