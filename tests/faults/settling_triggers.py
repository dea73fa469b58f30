"""Database triggers that record every settling and every later change of a settled row."""

COLUMNS = "run_id, image_id, status, grade, p_ge0, p_ge1, p_ge2, p_ge3, p_ge4, overlay_key, error_code"
_NEW = ", ".join(f"NEW.{name}" for name in COLUMNS.split(", "))
_TABLE = f"CREATE TABLE settlings (at DOUBLE PRECISION, was TEXT, {COLUMNS.replace(', ', ' TEXT, ')} TEXT)"
_NOTEWORTHY = "OLD.status <> 'queued' OR NEW.status <> 'queued'"

POSTGRESQL = (
    _TABLE,
    f"""CREATE FUNCTION write_settling() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO settlings (at, was, {COLUMNS}) VALUES (extract(epoch FROM clock_timestamp()), OLD.status, {_NEW});
        RETURN NULL; END $$""",
    f"""CREATE TRIGGER settlings AFTER UPDATE ON gradings FOR EACH ROW WHEN ({_NOTEWORTHY})
        EXECUTE FUNCTION write_settling()""",
)
SQLITE = (
    _TABLE,
    f"""CREATE TRIGGER settlings AFTER UPDATE ON gradings FOR EACH ROW WHEN {_NOTEWORTHY} BEGIN
        INSERT INTO settlings (at, was, {COLUMNS})
        VALUES ((julianday('now') - 2440587.5) * 86400.0, OLD.status, {_NEW}); END""",
)
