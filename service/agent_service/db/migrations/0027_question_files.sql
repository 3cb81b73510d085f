-- What is told of the files of a question: a list of name, media_type and bytes. The files themselves are in its input, which may
-- have megabytes, and is not read for a history.
ALTER TABLE slipway.runs ADD COLUMN files jsonb;
