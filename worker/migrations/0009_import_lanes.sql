-- A file is imported in two lanes at once, each with half of the channels (bucket % 2) and a place of its own: writing keeps
-- a backend of Postgres busier than all else, so two of them are almost twice as fast. The columns go at once: an importer
-- of before would go on from a place that does not move any more.
CREATE TABLE import_place (
    file         bigint      NOT NULL REFERENCES import_file ON DELETE CASCADE,
    lane         smallint    NOT NULL CHECK (lane IN (0, 1)),
    bytes        bigint      NOT NULL DEFAULT 0,
    hash         uuid        NOT NULL,
    lines        bigint      NOT NULL DEFAULT 0,
    counted      bigint      NOT NULL DEFAULT 0,
    committed_at timestamptz,
    PRIMARY KEY (file, lane)
) WITH (fillfactor = 50);
INSERT INTO import_place (file, lane, bytes, hash, lines, counted, committed_at)
SELECT f.file, l.lane, f.bytes, f.hash, f.lines, CASE l.lane WHEN 0 THEN f.counted ELSE 0 END, f.committed_at
FROM import_file f CROSS JOIN (VALUES (0), (1)) AS l (lane);
ALTER TABLE import_file DROP COLUMN bytes, DROP COLUMN hash, DROP COLUMN lines, DROP COLUMN counted, DROP COLUMN committed_at;

COMMENT ON TABLE import_place IS 'How far a file is imported, for each half of its channels';
COMMENT ON COLUMN import_place.file IS 'The file';
COMMENT ON COLUMN import_place.lane IS 'Which half: bucket % 2';
COMMENT ON COLUMN import_place.bytes IS 'So many bytes of its content, unpacked, are dealt with';
COMMENT ON COLUMN import_place.hash IS 'XXH3-128 of those bytes: a file that has grown still begins with them';
COMMENT ON COLUMN import_place.lines IS 'Lines in those bytes, those of the other half too';
COMMENT ON COLUMN import_place.counted IS 'Events of this half in those lines that were counted';
COMMENT ON COLUMN import_place.committed_at IS 'When more of it was counted last';
COMMENT ON TABLE import_file IS 'Imported files: each is a source of coverage';

CREATE VIEW import AS
SELECT f.file, f.name, min(p.bytes) AS bytes, min(p.lines) AS lines, sum(p.counted)::bigint AS counted,
    f.started_at, max(p.committed_at) AS committed_at
FROM import_file f
LEFT JOIN import_place p ON p.file = f.file
GROUP BY f.file;
COMMENT ON VIEW import IS 'Imported files, and how far they are';
COMMENT ON COLUMN import.file IS 'The file, as coverage.instance names it';
COMMENT ON COLUMN import.name IS 'Where it lay when it was imported last';
COMMENT ON COLUMN import.bytes IS 'So many bytes of its content, unpacked, are surely dealt with';
COMMENT ON COLUMN import.lines IS 'Lines in those bytes';
COMMENT ON COLUMN import.counted IS 'Events that were counted';
COMMENT ON COLUMN import.started_at IS 'When its import began';
COMMENT ON COLUMN import.committed_at IS 'When more of it was counted last';
