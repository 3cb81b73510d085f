-- Documents that `slipway ingest` brought in, cut into passages, found by full text and (with pgvector) by meaning.

CREATE TABLE slipway.documents (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source       text NOT NULL UNIQUE,             -- '<folder name>/<path in it>', or the name of a single file
    folder       text,                             -- the ingested folder's name; NULL: a single file
    title        text NOT NULL,
    content_hash text NOT NULL,
    ingested_at  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX documents_of_folder ON slipway.documents (folder);

-- '.' and '/' part words, so that `maxTurnSeconds` finds `streaming.maxTurnSeconds`: the parser takes that for one host name.
-- A leading hyphen is dropped: of `kill -9` the parser makes the number -9, and a question with it means "without 9".
CREATE FUNCTION slipway.words(value text) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN regexp_replace(value, '[./]|(?<!\S)-+', ' ', 'g');

CREATE TABLE slipway.passages (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    document_id bigint NOT NULL REFERENCES slipway.documents ON DELETE CASCADE,
    position    integer NOT NULL,
    title       text NOT NULL,
    section     text NOT NULL,
    text        text NOT NULL,
    search      tsvector NOT NULL GENERATED ALWAYS AS (
        setweight(to_tsvector('english', slipway.words(title)), 'A')
        || setweight(to_tsvector('english', slipway.words(section)), 'B')
        || setweight(to_tsvector('english', slipway.words(text)), 'D')
    ) STORED,
    UNIQUE (document_id, position)
);
CREATE INDEX passages_search ON slipway.passages USING gin (search);

-- Called below, and by `slipway ingest` when an embedding model is set: pgvector may come later.
CREATE FUNCTION slipway.enable_vector_search() RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    IF to_regclass('slipway.passage_embeddings') IS NOT NULL THEN
        RETURN true;
    END IF;
    CREATE EXTENSION IF NOT EXISTS vector;
    CREATE TABLE slipway.passage_embeddings (
        passage_id bigint NOT NULL REFERENCES slipway.passages ON DELETE CASCADE,
        model      text NOT NULL,
        embedding  vector NOT NULL,                -- no dimension: each model has its own
        PRIMARY KEY (passage_id, model)
    );
    RETURN true;
EXCEPTION WHEN feature_not_supported OR undefined_file OR undefined_object OR insufficient_privilege THEN
    RAISE NOTICE 'no vector search: %', SQLERRM;
    RETURN false;
END
$$;
SELECT slipway.enable_vector_search();
