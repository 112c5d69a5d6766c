-- A database as the original service's migrations leave it, and rows as that service leaves them:
-- written by hand after the description of its storage.

CREATE TABLE alembic_version (
    version_num character varying(32) NOT NULL,
    CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO alembic_version (version_num) VALUES ('83f0f272313f');

CREATE TABLE settings (
    name character varying NOT NULL,
    type character varying NOT NULL,
    default_value character varying NOT NULL,
    version character varying,
    CONSTRAINT settings_pkey PRIMARY KEY (name)
);

CREATE TABLE context_features (
    name character varying NOT NULL,
    index integer,
    CONSTRAINT context_features_pkey PRIMARY KEY (name),
    CONSTRAINT context_features_index_key UNIQUE (index)
);

CREATE TABLE configurable (
    setting character varying NOT NULL,
    context_feature character varying NOT NULL,
    CONSTRAINT configurable_setting_fkey FOREIGN KEY (setting)
        REFERENCES settings (name) ON UPDATE CASCADE ON DELETE CASCADE,
    CONSTRAINT configurable_context_feature_fkey FOREIGN KEY (context_feature)
        REFERENCES context_features (name),
    CONSTRAINT configurable_setting_context_feature_key UNIQUE (setting, context_feature)
);
CREATE INDEX ix_configurable_setting ON configurable (setting);

CREATE SEQUENCE rules_id_seq AS integer;
CREATE TABLE rules (
    id integer NOT NULL DEFAULT nextval('rules_id_seq'),
    setting character varying NOT NULL,
    value character varying NOT NULL,
    CONSTRAINT rules_pkey PRIMARY KEY (id),
    CONSTRAINT rules_setting_fkey FOREIGN KEY (setting)
        REFERENCES settings (name) ON UPDATE CASCADE ON DELETE CASCADE
);
ALTER SEQUENCE rules_id_seq OWNED BY rules.id;
CREATE INDEX ix_rules_setting ON rules (setting);

CREATE TABLE conditions (
    rule integer NOT NULL,
    context_feature character varying NOT NULL,
    feature_value character varying NOT NULL,
    CONSTRAINT conditions_rule_fkey FOREIGN KEY (rule)
        REFERENCES rules (id) ON UPDATE CASCADE ON DELETE CASCADE,
    CONSTRAINT conditions_context_feature_fkey FOREIGN KEY (context_feature)
        REFERENCES context_features (name),
    CONSTRAINT conditions_rule_context_feature_key UNIQUE (rule, context_feature)
);
CREATE INDEX ix_conditions_rule ON conditions (rule);

CREATE TABLE setting_metadata (
    setting character varying NOT NULL,
    key character varying NOT NULL,
    value jsonb NOT NULL,
    CONSTRAINT setting_metadata_setting_fkey FOREIGN KEY (setting)
        REFERENCES settings (name) ON UPDATE CASCADE ON DELETE CASCADE,
    CONSTRAINT setting_metadata_setting_key_key UNIQUE (setting, key)
);
CREATE INDEX ix_setting_metadata_setting ON setting_metadata (setting);

CREATE TABLE rule_metadata (
    rule integer NOT NULL,
    key character varying NOT NULL,
    value jsonb NOT NULL,
    CONSTRAINT rule_metadata_rule_fkey FOREIGN KEY (rule)
        REFERENCES rules (id) ON UPDATE CASCADE ON DELETE CASCADE,
    CONSTRAINT rule_metadata_rule_key_key UNIQUE (rule, key)
);
CREATE INDEX ix_rule_metadata_rule ON rule_metadata (rule);

CREATE TABLE setting_aliases (
    setting character varying NOT NULL,
    alias character varying NOT NULL,
    CONSTRAINT setting_aliases_setting_fkey FOREIGN KEY (setting)
        REFERENCES settings (name) ON UPDATE CASCADE ON DELETE CASCADE,
    CONSTRAINT setting_aliases_pkey PRIMARY KEY (alias)
);
CREATE INDEX ix_setting_aliases_setting ON setting_aliases (setting);

INSERT INTO context_features VALUES ('user', 1), ('environment', 0), ('theme', 2);

-- What it stored before settings had versions; NaN as the default value became null.
INSERT INTO settings VALUES
    ('ratio', 'float', 'null', NULL),
    ('background', 'Enum["black","white"]', '"white"', '1.3'),
    ('limits', 'Mapping<Sequence<int>>', '{"b":[1,2],"a":[]}', '2.0');
INSERT INTO configurable VALUES
    ('ratio', 'user'), ('background', 'theme'), ('background', 'user'), ('limits', 'environment');
INSERT INTO setting_aliases VALUES ('background', 'bg'), ('background', 'old.bg');
INSERT INTO setting_metadata VALUES
    ('background', 'owner', '"jane"'), ('background', 'gone', 'null'),
    ('limits', 'big', '1e300'), ('limits', 'nested', '{"bb": [1.0, true], "a": null}');

-- The first has no conditions; the third was added twice at the same time.
INSERT INTO rules (setting, value) VALUES
    ('ratio', 'null'), ('background', '"black"'), ('ratio', '0.5'), ('ratio', '0.5'),
    ('limits', '{}'), ('background', '"black"');
INSERT INTO conditions VALUES
    (2, 'user', 'jim'), (2, 'theme', 'dark'), (3, 'user', 'ann'), (4, 'user', 'ann'),
    (5, 'environment', 'dev'), (6, 'theme', 'dark');
INSERT INTO rule_metadata VALUES (2, 'why', '"dark is black"'), (2, 'ticket', '12');
DELETE FROM rules WHERE id = 6;
