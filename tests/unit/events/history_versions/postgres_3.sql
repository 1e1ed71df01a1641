CREATE SCHEMA opsq;
SET search_path = opsq;
CREATE TABLE version (number integer NOT NULL);
INSERT INTO version VALUES (1);
CREATE TABLE names (id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text COLLATE "C" NOT NULL UNIQUE);
CREATE TABLE tasks (
    key bigint PRIMARY KEY,
    id text COLLATE "C" NOT NULL UNIQUE,
    state integer NOT NULL,
    type integer,
    queue integer,
    worker integer,
    root text COLLATE "C",
    evidence bytea NOT NULL
);
CREATE INDEX tasks_root ON tasks (root) WHERE root IS NOT NULL;
CREATE TABLE cells (cell text COLLATE "C" PRIMARY KEY, n bigint NOT NULL) WITH (fillfactor = 50);
CREATE TABLE slices (
    width integer NOT NULL,
    series text COLLATE "C" NOT NULL,
    start bigint NOT NULL,
    data bytea NOT NULL,
    PRIMARY KEY (width, series, start)
) WITH (fillfactor = 50);
CREATE INDEX slices_start ON slices (width, start);
CREATE TABLE workers (name text COLLATE "C" PRIMARY KEY, record bytea NOT NULL);
CREATE TABLE ledger (name text COLLATE "C" PRIMARY KEY, value bytea NOT NULL);
CREATE TABLE fresh (key bigint PRIMARY KEY, stamp bigint NOT NULL, again boolean NOT NULL);
CREATE TABLE segments (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    docs integer NOT NULL,
    low bigint NOT NULL,
    high bigint NOT NULL,
    keys bytea NOT NULL,
    dead bytea NOT NULL
);
CREATE TABLE blocks (
    segment bigint NOT NULL,
    first bigint NOT NULL,
    data bytea NOT NULL,
    PRIMARY KEY (segment, first)
);
ALTER TABLE segments ALTER COLUMN keys SET STORAGE EXTERNAL;
ALTER TABLE blocks ALTER COLUMN data SET STORAGE EXTERNAL;
CREATE TABLE audit (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at double precision NOT NULL, record bytea NOT NULL
);
CREATE INDEX audit_at ON audit (at);
CREATE TABLE state (one boolean PRIMARY KEY DEFAULT true CHECK (one), epoch bigint NOT NULL);
INSERT INTO state (epoch) VALUES (0);
INSERT INTO names (id, name) OVERRIDING SYSTEM VALUE VALUES (1, 'FAILURE');
INSERT INTO names (id, name) OVERRIDING SYSTEM VALUE VALUES (2, 'SUCCESS');
INSERT INTO names (id, name) OVERRIDING SYSTEM VALUE VALUES (3, 'app.add');
INSERT INTO names (id, name) OVERRIDING SYSTEM VALUE VALUES (4, 'celery');
INSERT INTO names (id, name) OVERRIDING SYSTEM VALUE VALUES (5, 'opsq@one');
ALTER TABLE names ALTER COLUMN id RESTART WITH 6;
INSERT INTO tasks VALUES (1, 'task-0', 2, 3, 4, 5, NULL, '\x9491a86f707371406f6e65939601cb41daac4ee0000000000001809602cb41daac4ee0066666010000809604cb41daac4ee00ccccd020000810ccb3fb999999999999a919501cb41daac4ee000000000008200a76170702e61646408a663656c65727981a87461736b2d6c6f679196ffcb41daac4ee009999a01a86f707371406f6e650183a5666972737401a86c6566745f6f757400a56c696e65739194cb41daac4ee009999aa4494e464fa3617070af6b65707420696e2074686520726f77');
INSERT INTO tasks VALUES (2, 'task-1', 2, 3, 4, 5, NULL, '\x9491a86f707371406f6e65939601cb41daac4ee04000000a0001809602cb41daac4ee04666660b0000809604cb41daac4ee04ccccd0c0000810ccb3fb999999999999a919501cb41daac4ee04000000a008200a76170702e61646408a663656c65727980');
INSERT INTO tasks VALUES (3, 'task-2', 1, 3, 4, 5, NULL, '\x9491a86f707371406f6e65939601cb41daac4ee0800000140001809602cb41daac4ee0866666150000809605cb41daac4ee08ccccd160000810ccb3fb999999999999a919501cb41daac4ee080000014008200a76170702e61646408a663656c65727980');
INSERT INTO fresh SELECT key, 0, false FROM tasks;
INSERT INTO cells VALUES (concat_ws(chr(31), 'FAILURE', 'app.add', 'celery', 'opsq@one'), 1);
INSERT INTO cells VALUES (concat_ws(chr(31), 'SUCCESS', 'app.add', 'celery', 'opsq@one'), 2);
CREATE TABLE logs (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id text COLLATE "C" NOT NULL,
    at double precision NOT NULL,
    digest bigint NOT NULL,
    record bytea NOT NULL,
    UNIQUE (id, at, digest)
);
CREATE TABLE log_size (bytes bigint NOT NULL);
INSERT INTO log_size VALUES (0);
DELETE FROM slices WHERE width = 0 AND series >= 'c:' AND series < 'c;';
INSERT INTO logs (id, at, digest, record) VALUES ('task-0', 1790000000.155, -2114938986921838407, '\x93a86f707371406f6e650183a5666972737401a86c6566745f6f757400a56c696e65739194cb41daac4ee009eb85a4494e464fa3617070aa6b6570742073696e6365');
UPDATE log_size SET bytes = 66;
CREATE TABLE decisions (
    grp text COLLATE "C" NOT NULL,
    at double precision NOT NULL,
    source text COLLATE "C" NOT NULL,
    changed boolean NOT NULL,
    record bytea NOT NULL,
    PRIMARY KEY (grp, at, source)
);
CREATE INDEX decisions_at ON decisions (at);
INSERT INTO decisions VALUES ('opsq@one', 1790000000.5, 'opsq@one', true, '\x84a567726f7570a86f707371406f6e65a46861766502a477616e7404a674617267657404');
UPDATE version SET number = 3;
