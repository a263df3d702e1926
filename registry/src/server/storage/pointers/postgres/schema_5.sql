-- Version 5: the certificate that replicas get by themselves, the account that it is asked for by, and answers to challenges.
CREATE SEQUENCE secret_numbers;
CREATE TABLE secrets (
    name          text COLLATE "C" PRIMARY KEY,
    number        bigint NOT NULL,  -- another one after each change
    value         bytea NOT NULL    -- JSON, sealed as keys of tokens are
);
