-- What was imported, and how far: a file's progress moves in the transaction of its counts.

CREATE TABLE import_file (
    file         bigint      PRIMARY KEY,
    name         text        NOT NULL,
    bytes        bigint      NOT NULL DEFAULT 0,
    hash         uuid        NOT NULL,
    lines        bigint      NOT NULL DEFAULT 0,
    counted      bigint      NOT NULL DEFAULT 0,
    whole_from   timestamptz,
    whole_until  timestamptz CHECK (whole_until > whole_from),
    started_at   timestamptz NOT NULL DEFAULT now(),
    committed_at timestamptz
) WITH (fillfactor = 50);
COMMENT ON TABLE import_file IS 'Imported files: each is a source of coverage, and how much of it is counted';
COMMENT ON COLUMN import_file.file IS
    'Hash of what the file begins with, up to its first line of chat, and of what it was said to be whole for; coverage.instance names it';
COMMENT ON COLUMN import_file.name IS 'Where it lay when it was imported last';
COMMENT ON COLUMN import_file.bytes IS 'So many bytes of its content, unpacked, are dealt with';
COMMENT ON COLUMN import_file.hash IS 'XXH3-128 of those bytes: a file that has grown still begins with them';
COMMENT ON COLUMN import_file.lines IS 'Lines in those bytes';
COMMENT ON COLUMN import_file.counted IS 'Events in those lines that were counted';
COMMENT ON COLUMN import_file.whole_from IS 'From when on its user says that it is whole; null: from each channel''s first line on';
COMMENT ON COLUMN import_file.whole_until IS 'Until when; null: up to each channel''s last line';
COMMENT ON COLUMN import_file.started_at IS 'When its import began';
COMMENT ON COLUMN import_file.committed_at IS 'When more of it was counted last';
