-- Who heard what outlives the hours, of all sources in one: so history that is older than they are can be imported, and
-- counts nothing twice. Of the time before this migration's hours it is not known any more.
ALTER TABLE retained_from DROP CONSTRAINT retained_from_level_check;
ALTER TABLE retained_from ADD CONSTRAINT retained_from_level_check
    CHECK (level IN ('minute_chatters', 'minute', 'hour', 'day', 'event', 'heard'));
INSERT INTO retained_from (level, start_time) SELECT 'heard', start_time FROM retained_from WHERE level = 'hour';
COMMENT ON COLUMN retained_from.level IS
    'minute_chatters, minute, hour, day: tables of that window; event: chat_event, phrase_match; heard: coverage';
COMMENT ON COLUMN coverage.instance IS
    'Random id of the ingest instance, or the imported file, as a signed number; 0: whoever it was, before the hours that are kept';
