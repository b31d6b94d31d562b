CREATE SCHEMA icache_demo;
COMMENT ON SCHEMA icache_demo IS 'made by icache-agent demo; dropped when it ends';
SET LOCAL search_path = icache_demo;

CREATE TABLE films (
    id      integer PRIMARY KEY,
    title   text    NOT NULL,
    year    integer NOT NULL,
    runtime integer NOT NULL, -- minutes
    genres  text[]  NOT NULL
);
CREATE TABLE people (
    id   integer PRIMARY KEY,
    name text    NOT NULL UNIQUE
);
CREATE TABLE credits (
    film_id   integer NOT NULL REFERENCES films ON DELETE CASCADE,
    person_id integer NOT NULL REFERENCES people ON DELETE CASCADE,
    role      text    NOT NULL CHECK (role IN ('director', 'cast')),
    position  integer NOT NULL,
    PRIMARY KEY (film_id, role, position)
);
CREATE TABLE viewers (
    id   integer PRIMARY KEY,
    name text    NOT NULL
);
CREATE TABLE ratings (
    viewer_id integer  NOT NULL REFERENCES viewers ON DELETE CASCADE,
    film_id   integer  NOT NULL REFERENCES films ON DELETE CASCADE,
    stars     smallint NOT NULL CHECK (stars BETWEEN 1 AND 5),
    PRIMARY KEY (viewer_id, film_id)
);
CREATE INDEX ON ratings (film_id);
