-- A spool as version 1 of its schema left it in the middle of work, made by that version's code: one message in each
-- of several states. Kept for the test of the upgrade; never changed.
PRAGMA application_id = 1333227120;
PRAGMA user_version = 1;
PRAGMA auto_vacuum = INCREMENTAL;
CREATE TABLE chunk (
    id INTEGER PRIMARY KEY,
    data BLOB NOT NULL
) STRICT;
INSERT INTO "chunk" VALUES(65536,X'5375626A6563743A20434C41494D45440D0A0D0A68656C6C6F0D0A');
INSERT INTO "chunk" VALUES(131072,X'5375626A6563743A2044454645525245440D0A0D0A68656C6C6F0D0A');
INSERT INTO "chunk" VALUES(196608,X'5375626A6563743A20444F55425446554C0D0A0D0A68656C6C6F0D0A');
INSERT INTO "chunk" VALUES(262144,X'5375626A6563743A2053454E44494E470D0A0D0A68656C6C6F0D0A');
INSERT INTO "chunk" VALUES(327680,X'5375626A6563743A20535455434B0D0A0D0A68656C6C6F0D0A');
INSERT INTO "chunk" VALUES(458752,X'5375626A6563743A2048454C440D0A0D0A68656C6C6F0D0A');
INSERT INTO "chunk" VALUES(524288,X'5375626A6563743A2051554F5445440D0A0D0A68656C6C6F0D0A');
INSERT INTO "chunk" VALUES(589824,X'5375626A6563743A2057414954494E470D0A0D0A68656C6C6F0D0A');
CREATE TABLE delivery (
    id INTEGER PRIMARY KEY,
    account TEXT NOT NULL,
    recipient TEXT NOT NULL,
    state TEXT NOT NULL,
    next_attempt REAL NOT NULL,
    changed_at REAL NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    doubts INTEGER NOT NULL DEFAULT 0,
    provider TEXT NOT NULL DEFAULT '',
    code INTEGER NOT NULL DEFAULT 0,
    reply TEXT NOT NULL DEFAULT '',
    held REAL NOT NULL DEFAULT 0,
    delay_noticed INTEGER NOT NULL DEFAULT 0,
    acknowledged INTEGER NOT NULL DEFAULT 0
) STRICT;
INSERT INTO "delivery" VALUES(65536,'anna','bob@example.net','claimed',1800000000.0,1800000000.0,0,0,'',0,'',0.0,0,0);
INSERT INTO "delivery" VALUES(131072,'anna','bob@example.net','due',1800000060.0,1800000000.0,1,0,'sink',250,'so it was',0.0,0,0);
INSERT INTO "delivery" VALUES(131073,'anna','carl@example.net','due',1800000060.0,1800000000.0,1,0,'sink',250,'so it was',0.0,0,0);
INSERT INTO "delivery" VALUES(196608,'anna','bob@example.net','due',1800000900.0,1800000000.0,1,1,'sendgrid',250,'so it was',0.0,0,0);
INSERT INTO "delivery" VALUES(262144,'anna','bob@example.net','sending',1800000000.0,1800000000.0,0,0,'sendgrid',0,'',0.0,0,0);
INSERT INTO "delivery" VALUES(327680,'anna','bob@example.net','sending',1800000000.0,1800000000.0,1,2,'sendgrid',250,'so it was',0.0,0,0);
INSERT INTO "delivery" VALUES(393216,'anna','bob@example.net','refused',0.0,1800000000.0,1,0,'sendgrid',250,'so it was',0.0,0,0);
INSERT INTO "delivery" VALUES(458752,'anna','bob@example.net','held',1800000000.0,1800000000.0,0,0,'',0,'',0.0,0,0);
INSERT INTO "delivery" VALUES(524288,'shop','bob@example.net','due',1800000060.0,1800000000.0,1,0,'sink',250,'so it was',0.0,0,0);
INSERT INTO "delivery" VALUES(589824,'bert','bob@example.net','due',1800000000.0,1800000000.0,0,0,'',0,'',0.0,0,0);
CREATE TABLE event (
    message INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    kind TEXT NOT NULL,
    at REAL NOT NULL,
    account TEXT NOT NULL,
    recipient TEXT NOT NULL,
    provider TEXT NOT NULL,
    code INTEGER NOT NULL,
    reply TEXT NOT NULL,
    detail TEXT NOT NULL,
    PRIMARY KEY (message, seq)
) STRICT, WITHOUT ROWID;
INSERT INTO "event" VALUES(1,4294967296,'accepted',1800000000.0,'anna','','',0,'','');
INSERT INTO "event" VALUES(2,4294967297,'accepted',1800000000.0,'anna','','',0,'','');
INSERT INTO "event" VALUES(3,4294967298,'accepted',1800000000.0,'anna','','',0,'','');
INSERT INTO "event" VALUES(4,4294967299,'accepted',1800000000.0,'anna','','',0,'','');
INSERT INTO "event" VALUES(5,4294967300,'accepted',1800000000.0,'anna','','',0,'','');
INSERT INTO "event" VALUES(6,4294967301,'accepted',1800000000.0,'anna','','',0,'','');
INSERT INTO "event" VALUES(7,4294967302,'accepted',1800000000.0,'anna','','',0,'','');
INSERT INTO "event" VALUES(7,4294967303,'held',1800000000.0,'anna','bob@example.net','',0,'','');
INSERT INTO "event" VALUES(8,4294967304,'accepted',1800000000.0,'shop','','',0,'','');
INSERT INTO "event" VALUES(9,4294967305,'accepted',1800000000.0,'bert','','',0,'','');
CREATE TABLE message (
    key INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    account TEXT NOT NULL,
    sender TEXT NOT NULL,
    size INTEGER NOT NULL,
    received_at REAL NOT NULL,
    message_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    null_sender INTEGER NOT NULL,
    smtputf8 INTEGER NOT NULL,
    notify TEXT NOT NULL,
    recipients INTEGER NOT NULL,
    chunks INTEGER NOT NULL,
    ended_at REAL
) STRICT;
INSERT INTO "message" VALUES(1,'CLAIMED0000000000000000000','anna','anna@example.org',27,1800000000.0,'<CLAIMED@example.org>','mail',0,0,'anna@example.org',1,1,NULL);
INSERT INTO "message" VALUES(2,'DEFERRED000000000000000000','anna','Anna@Example.ORG',28,1800000000.0,'<DEFERRED@example.org>','mail',0,0,'anna@example.org',2,1,NULL);
INSERT INTO "message" VALUES(3,'DOUBTFUL000000000000000000','anna','anna@example.org',28,1800000000.0,'<DOUBTFUL@example.org>','mail',0,0,'anna@example.org',1,1,NULL);
INSERT INTO "message" VALUES(4,'SENDING0000000000000000000','anna','anna@example.org',27,1800000000.0,'<SENDING@example.org>','mail',0,0,'anna@example.org',1,1,NULL);
INSERT INTO "message" VALUES(5,'STUCK000000000000000000000','anna','anna@example.org',25,1800000000.0,'<STUCK@example.org>','mail',0,0,'anna@example.org',1,1,NULL);
INSERT INTO "message" VALUES(6,'REFUSED0000000000000000000','anna','anna@example.org',27,1800000000.0,'<REFUSED@example.org>','mail',0,0,'anna@example.org',1,1,1800000000.0);
INSERT INTO "message" VALUES(7,'HELD0000000000000000000000','anna','anna@example.org',24,1800000000.0,'<HELD@example.org>','mail',0,0,'anna@example.org',1,1,NULL);
INSERT INTO "message" VALUES(8,'QUOTED00000000000000000000','shop','"odd@name"@shop.example',26,1800000000.0,'<QUOTED@example.org>','mail',0,0,'anna@example.org',1,1,NULL);
INSERT INTO "message" VALUES(9,'WAITING0000000000000000000','bert','bert@example.org',27,1800000000.0,'<WAITING@example.org>','mail',0,0,'anna@example.org',1,1,NULL);
CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO "meta" VALUES('generation',1);
CREATE TABLE upload (
    key INTEGER PRIMARY KEY
) STRICT;
CREATE INDEX message_open ON message (received_at, size) WHERE ended_at IS NULL;
CREATE INDEX delivery_due ON delivery (account, next_attempt) WHERE state = 'due';
CREATE INDEX delivery_busy ON delivery (state) WHERE state IN ('claimed', 'sending', 'held');
CREATE INDEX delivery_failed ON delivery (state) WHERE state IN ('refused', 'expired', 'unknown') AND acknowledged = 0;
