"""What the database itself refuses: to change or remove an event that is written."""

from __future__ import annotations

from django.db.backends.base.base import BaseDatabaseWrapper

TABLE = "clinic_auditevent"
SAYS = "what was recorded is neither changed nor removed"
NAMES = {deed: f"{TABLE}_no_{deed.lower()}" for deed in ("UPDATE", "DELETE")}
FUNCTION = f"{TABLE}_refuse"


def put_up(connection: BaseDatabaseWrapper) -> None:
    """Put them up where they are not yet: SQLite loses them when a migration remakes the table."""
    with connection.cursor() as cursor:
        for statement in _statements(connection.vendor):
            cursor.execute(statement)


def take_down(connection: BaseDatabaseWrapper) -> None:
    """Take them down: on the way back to a version that had none."""
    with connection.cursor() as cursor:
        for name in NAMES.values():
            cursor.execute(f"DROP TRIGGER IF EXISTS {name}" + _on_table(connection.vendor))


def are_up(connection: BaseDatabaseWrapper) -> bool:
    """Whether the database has them."""
    asked = (
        "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = %s"
        if connection.vendor == "sqlite"
        else "SELECT tgname FROM pg_trigger WHERE tgrelid = to_regclass(%s)"
    )
    with connection.cursor() as cursor:
        cursor.execute(asked, [TABLE])
        return {row[0] for row in cursor.fetchall()} >= set(NAMES.values())


def _on_table(vendor: str) -> str:
    return "" if vendor == "sqlite" else f" ON {TABLE}"


def _statements(vendor: str) -> list[str]:
    if vendor == "sqlite":
        return [
            f"CREATE TRIGGER IF NOT EXISTS {name} BEFORE {deed} ON {TABLE} "
            f"BEGIN SELECT RAISE(ABORT, '{SAYS}'); END"
            for deed, name in NAMES.items()
        ]
    function = (
        f"CREATE OR REPLACE FUNCTION {FUNCTION}() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{SAYS}'; END $$"
    )
    return [
        function,
        *(
            f"CREATE OR REPLACE TRIGGER {name} BEFORE {deed} ON {TABLE} "
            f"FOR EACH ROW EXECUTE FUNCTION {FUNCTION}()"
            for deed, name in NAMES.items()
        ),
    ]
