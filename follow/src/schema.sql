-- The tables of postmapd, for PostgreSQL 13 and later. `postmapd-follow init` prints this file, and `init --apply` runs it.
--
-- Any client may change the tables relay, credential and relay_tls, with any statement. Triggers record what has changed in the
-- tables state and change, which postmapd-follow reads.
--
-- Each transaction that changes rows updates the one row of state, so such transactions wait for one another, and a revision is in
-- the order of commits. Keep them short, and set a limit for the wait in programs that write: SET lock_timeout = '5s'.
--
-- Not recorded: changes while the triggers are disabled (ALTER TABLE ... DISABLE TRIGGER, session_replication_role), and those that
-- logical replication applies. Call touch() of this schema after them.

BEGIN;
-- The patterns below have backslashes.
SET LOCAL standard_conforming_strings = on;

DO $$ BEGIN
  IF current_setting('server_encoding') <> 'UTF8' THEN
    RAISE EXCEPTION 'the encoding of this database is %, and that of the tables of postmapd must be UTF8',
      current_setting('server_encoding') USING ERRCODE = 'feature_not_supported', HINT = 'CREATE DATABASE ... ENCODING ''UTF8'' TEMPLATE template0';
  END IF;
END $$;

CREATE SCHEMA {schema};
SET LOCAL search_path = {schema};

-- The domains accept nothing that postmapd rejects. Texts that are ASCII and short are not compared with each pattern, because
-- patterns take most of the time of an INSERT. The order of COLLATE "C" is that of bytes, in which the tables are read.

CREATE DOMAIN sender AS text COLLATE "C"
  CONSTRAINT length CHECK (octet_length(VALUE) <= 1024)
  CONSTRAINT no_invisible_character CHECK (
    octet_length(VALUE) = char_length(VALUE) OR VALUE !~ '{invisible}')
  CONSTRAINT no_punctuation_in_domain CHECK (
    octet_length(VALUE) = char_length(VALUE) OR VALUE !~ '{punctuation}[^@]*$')
  CONSTRAINT length_of_labels CHECK (octet_length(VALUE) < 64 OR VALUE !~ '[^.@]{64}[^@]*$')
  CONSTRAINT length_of_domain CHECK (octet_length(VALUE) < 256 OR VALUE !~ '[^@]{255}[^@]$')
  CONSTRAINT is_sender CHECK (VALUE ~ '{sender}' OR VALUE LIKE '%@[%' AND VALUE ~ '{sender_at_address}');
COMMENT ON DOMAIN sender IS
  'user@example.com, @example.com, @.example.com for all subdomains, @* for all other senders, <> for bounces';

CREATE DOMAIN login_key AS text COLLATE "C"
  CONSTRAINT length CHECK (octet_length(VALUE) <= 1024)
  CONSTRAINT no_invisible_character CHECK (
    octet_length(VALUE) = char_length(VALUE) OR VALUE !~ '{invisible}')
  CONSTRAINT no_punctuation_in_domain CHECK (
    octet_length(VALUE) = char_length(VALUE) OR VALUE !~ '{punctuation}[^@]*$')
  CONSTRAINT length_of_labels CHECK (octet_length(VALUE) < 64 OR VALUE !~ '[^].:@[]{64}[^@]*$')
  CONSTRAINT length_of_domain CHECK (octet_length(VALUE) < 256 OR VALUE !~ '[^]:@[]{255}[^]:@[][^@]*$')
  CONSTRAINT is_sender_or_next_hop CHECK (VALUE <> '@*' AND (
    VALUE ~ '{sender}' OR VALUE ~ '{named_host}' OR VALUE LIKE '%@[%' AND VALUE ~ '{sender_at_address}' OR VALUE ~ '{one_next_hop}'));
COMMENT ON DOMAIN login_key IS 'a sender except @*, or a next hop as in the table relay, or a host';

CREATE DOMAIN next_hop AS text COLLATE "C"
  CONSTRAINT length CHECK (octet_length(VALUE) <= 8192)
  CONSTRAINT length_of_labels CHECK (octet_length(VALUE) < 64 OR VALUE !~ '[-0-9A-Za-z_]{64}')
  CONSTRAINT length_of_names CHECK (octet_length(VALUE) < 256 OR VALUE !~ '[-0-9A-Za-z_.]{255}[-0-9A-Za-z_.]')
  CONSTRAINT is_next_hop CHECK (VALUE ~ '{named_host}' OR VALUE ~ '{next_hops}');
COMMENT ON DOMAIN next_hop IS '[relay.example.com]:587, or a list of them separated by commas';

CREATE DOMAIN tls_key AS text COLLATE "C"
  CONSTRAINT length_of_labels CHECK (octet_length(VALUE) < 64 OR VALUE !~ '[-0-9A-Za-z_]{64}')
  CONSTRAINT length_of_names CHECK (octet_length(VALUE) < 256 OR VALUE !~ '[-0-9A-Za-z_.]{255}[-0-9A-Za-z_.]')
  CONSTRAINT is_next_hop CHECK (VALUE = '*' OR VALUE ~ '{named_host}' OR VALUE ~ '{one_next_hop}');
COMMENT ON DOMAIN tls_key IS 'a next hop as in the table relay, a host, or * for all others';

CREATE DOMAIN tls_value AS text COLLATE "C"
  CONSTRAINT length CHECK (octet_length(VALUE) <= 8192)
  CONSTRAINT length_of_labels CHECK (octet_length(VALUE) < 64 OR VALUE !~* 'servername=[-0-9A-Z_.]*[-0-9A-Z_]{64}')
  CONSTRAINT length_of_names CHECK (octet_length(VALUE) < 256 OR VALUE !~* 'servername=[-0-9A-Z_.]{255}[-0-9A-Z_.]')
  CONSTRAINT no_attribute_twice CHECK (VALUE !~* '{repeated_attribute}')
  CONSTRAINT fingerprint_has_match CHECK (VALUE !~* '(^|[ ,])fingerprint([ ,]|$)' OR VALUE ~* '[ ,]match=')
  CONSTRAINT implicit_demands_tls CHECK (VALUE !~* '^implicit[ ,]+(none|may|dane)([ ,]|$)')
  CONSTRAINT is_tls_policy CHECK (VALUE ~* '{tls}');
COMMENT ON DOMAIN tls_value IS 'as in postfix-relay-tls.cf: [implicit|starttls] [level [attribute=value]...] [via=service]';

CREATE TABLE relay (
  key     sender PRIMARY KEY,
  nexthop next_hop);
COMMENT ON TABLE relay IS 'the next hop of each sender: sender_dependent_relayhost_maps of Postfix';
COMMENT ON COLUMN relay.nexthop IS 'NULL: mail of this sender is delivered directly, whatever its domain has';
-- Letter case does not distinguish senders.
CREATE UNIQUE INDEX relay_lower_key ON relay (lower(key COLLATE "default"));

CREATE TABLE credential (
  key      login_key PRIMARY KEY,
  "user"   text COLLATE "C" CONSTRAINT is_user CHECK ("user" ~ '{user}' AND octet_length("user") <= 1024),
  password text COLLATE "C" CONSTRAINT is_password CHECK (password ~ '{password}' AND octet_length(password) <= 8192),
  CONSTRAINT user_and_password CHECK (("user" IS NULL) = (password IS NULL)),
  CONSTRAINT only_senders_without_login CHECK ("user" IS NOT NULL OR key LIKE '%@%' OR key = '<>'));
COMMENT ON TABLE credential IS 'the login of each sender, next hop or host: smtp_sasl_password_maps of Postfix';
COMMENT ON COLUMN credential."user" IS 'without a colon; NULL, as the password: this sender has no login, whatever its domain has';
COMMENT ON COLUMN credential.password IS 'in clear text, because Postfix needs it; it does not end in whitespace';
CREATE UNIQUE INDEX credential_lower_key ON credential (lower(key COLLATE "default"));

CREATE TABLE relay_tls (
  key   tls_key PRIMARY KEY,
  value tls_value NOT NULL,
  CONSTRAINT implicit_port_demands_tls CHECK (
    key !~ ':(465|smtps|submissions)$' OR value !~* '^(none|may|dane)([ ,]|$)'));
COMMENT ON TABLE relay_tls IS 'how to speak TLS to each next hop; without a row, a policy is computed';
CREATE UNIQUE INDEX relay_tls_lower_key ON relay_tls (lower(key COLLATE "default"));

CREATE TABLE state (
  one            boolean PRIMARY KEY DEFAULT true CHECK (one),
  schema_version integer NOT NULL,
  revision       bigint NOT NULL,
  version        uuid NOT NULL,
  pruned         bigint NOT NULL,
  writer         xid8 NOT NULL,
  at             timestamptz NOT NULL);
COMMENT ON TABLE state IS 'one row, written by triggers';
COMMENT ON COLUMN state.schema_version IS 'the version of these tables and triggers';
COMMENT ON COLUMN state.revision IS 'the number of the state, for people and to find what has changed since';
COMMENT ON COLUMN state.version IS 'the identity of the state: after a failover, another state may have the same revision';
COMMENT ON COLUMN state.pruned IS 'what changed in earlier revisions is forgotten';
COMMENT ON COLUMN state.writer IS 'the transaction that made the state';
COMMENT ON COLUMN state.at IS 'the time of its first change';

CREATE TABLE change (
  revision bigint NOT NULL,
  version  uuid NOT NULL,
  map      "char" NOT NULL CHECK (map IN ('r', 'c', 't')),
  key      text COLLATE "C");
COMMENT ON TABLE change IS 'what each revision changed, written by triggers; each revision has a row';
COMMENT ON COLUMN change.map IS 'r: relay, c: credential, t: relay_tls';
COMMENT ON COLUMN change.key IS 'NULL: many rows of this table, or all';
CREATE INDEX change_revision ON change (revision);

WITH first AS (
  INSERT INTO state VALUES (true, {version}, 1, gen_random_uuid(), 1, pg_current_xact_id(), clock_timestamp())
  RETURNING revision, version)
INSERT INTO change SELECT revision, version, 'r', NULL FROM first;

-- Returns the revision and the version that this transaction makes: one, however many statements it has. It waits until any
-- other transaction that has made one has ended, so the order of revisions is that of commits.
CREATE FUNCTION next_state(OUT new_revision bigint, OUT new_version uuid) LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  -- Once in so many revisions, those before the last so many are forgotten, or more if the log is very long.
  once_in CONSTANT bigint := 256;
  kept bigint := 4096;
  kept_of_long_log CONSTANT bigint := 16;
  most_in_log CONSTANT bigint := 1000000;
BEGIN
  -- The time tells it from a transaction of the same number in the database from which this one was restored.
  SELECT s.revision, s.version INTO new_revision, new_version FROM {schema}.state AS s
    WHERE s.writer = pg_current_xact_id() AND s.at >= transaction_timestamp();
  IF FOUND THEN
    RETURN;
  END IF;
  UPDATE {schema}.state AS s
    SET revision = s.revision + 1, version = gen_random_uuid(), writer = pg_current_xact_id(), at = clock_timestamp()
    RETURNING s.revision, s.version INTO new_revision, new_version;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'the table {schema}.state has no row' USING ERRCODE = 'object_not_in_prerequisite_state',
      HINT = 'Restore it, or create the tables of postmapd again.';
  END IF;
  IF new_revision % once_in = 0 THEN
    IF (SELECT count(*) FROM (SELECT FROM {schema}.change LIMIT most_in_log + 1) AS part) > most_in_log THEN
      kept := kept_of_long_log;
    END IF;
    DELETE FROM {schema}.change WHERE revision < new_revision - kept;
    UPDATE {schema}.state SET pruned = greatest(pruned, new_revision - kept);
  END IF;
  -- A hint for those that listen.
  PERFORM pg_notify({channel}, '');
END $$;
REVOKE ALL ON FUNCTION next_state() FROM PUBLIC;

CREATE FUNCTION record_change() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  -- More rows than this in one statement are recorded as "many rows".
  most CONSTANT bigint := 50000;
  is_many boolean := TG_OP = 'TRUNCATE';
  keys text[];
BEGIN
  IF TG_OP = 'INSERT' THEN
    SELECT array_agg(k) INTO keys FROM (SELECT key::text AS k FROM new_rows LIMIT most + 1) AS part;
  ELSIF TG_OP = 'DELETE' THEN
    SELECT array_agg(k) INTO keys FROM (SELECT key::text AS k FROM old_rows LIMIT most + 1) AS part;
  ELSIF TG_OP = 'UPDATE' THEN
    is_many := (SELECT count(*) FROM (SELECT FROM new_rows LIMIT most + 1) AS part) > most;
    IF NOT is_many THEN
      SELECT array_agg(k) INTO keys FROM (
        SELECT key::text AS k FROM (SELECT * FROM old_rows EXCEPT SELECT * FROM new_rows) AS b
        UNION SELECT key::text FROM (SELECT * FROM new_rows EXCEPT SELECT * FROM old_rows) AS a) AS part;
    END IF;
  END IF;
  IF is_many OR cardinality(keys) > most THEN
    INSERT INTO {schema}.change SELECT n.new_revision, n.new_version, TG_ARGV[0]::"char", NULL FROM {schema}.next_state() AS n;
  ELSIF keys IS NOT NULL THEN
    INSERT INTO {schema}.change
      SELECT n.new_revision, n.new_version, TG_ARGV[0]::"char", unnest(keys) FROM {schema}.next_state() AS n;
  END IF;
  -- A statement that changes nothing makes no new state.
  RETURN NULL;
END $$;
REVOKE ALL ON FUNCTION record_change() FROM PUBLIC;

CREATE FUNCTION touch() RETURNS void LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
  INSERT INTO {schema}.change
    SELECT n.new_revision, n.new_version, unnest(ARRAY['r', 'c', 't']::"char"[]), NULL FROM {schema}.next_state() AS n $$;
REVOKE ALL ON FUNCTION touch() FROM PUBLIC;
COMMENT ON FUNCTION touch() IS 'makes a new state, after which all rows are read again';

-- Before the first row of a statement is locked, so that two transactions that change the same rows in another order do not wait
-- for each other.
CREATE FUNCTION lock_state() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM FROM {schema}.state FOR NO KEY UPDATE;
  RETURN NULL;
END $$;
REVOKE ALL ON FUNCTION lock_state() FROM PUBLIC;

DO $$ DECLARE t text[]; BEGIN
  FOREACH t SLICE 1 IN ARRAY ARRAY[['relay', 'r'], ['credential', 'c'], ['relay_tls', 't']] LOOP
    EXECUTE format('CREATE TRIGGER locks BEFORE INSERT OR UPDATE OR DELETE ON %I '
      'FOR EACH STATEMENT EXECUTE FUNCTION lock_state()', t[1]);
    EXECUTE format('CREATE TRIGGER inserted AFTER INSERT ON %I REFERENCING NEW TABLE AS new_rows '
      'FOR EACH STATEMENT EXECUTE FUNCTION record_change(%L)', t[1], t[2]);
    EXECUTE format('CREATE TRIGGER updated AFTER UPDATE ON %I REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows '
      'FOR EACH STATEMENT EXECUTE FUNCTION record_change(%L)', t[1], t[2]);
    EXECUTE format('CREATE TRIGGER deleted AFTER DELETE ON %I REFERENCING OLD TABLE AS old_rows '
      'FOR EACH STATEMENT EXECUTE FUNCTION record_change(%L)', t[1], t[2]);
    EXECUTE format('CREATE TRIGGER truncated AFTER TRUNCATE ON %I '
      'FOR EACH STATEMENT EXECUTE FUNCTION record_change(%L)', t[1], t[2]);
  END LOOP;
END $$;
{grants}
COMMIT;
