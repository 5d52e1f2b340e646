"""The database engine of the settings. Without a vault it is Django's own for SQLite, untouched."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from functools import cache
from itertools import tee
from pathlib import Path
from typing import Any

from django.db.backends.sqlite3 import base
from django.db.backends.sqlite3._functions import register  # type: ignore[import-untyped]

from app import vault
from app.vault import cipher


class DatabaseWrapper(base.DatabaseWrapper):
    """A connection of either kind."""

    init_commands: list[str]

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        """Open the file; raises CannotStart where it is encrypted and locked, or half encrypted."""
        if self.is_in_memory_db() or not vault.is_on():
            self.Database = sqlite3.dbapi2
            return super().get_new_connection(conn_params)
        keys = vault.keys()
        self.Database = cipher.dbapi()
        cipher.refuse_plain(Path(conn_params["database"]))
        connection = cipher.connect(**conn_params, key=keys.database)
        register(connection)
        # As Django's own does it
        for command in ("PRAGMA foreign_keys = ON", "PRAGMA legacy_alter_table = OFF"):
            connection.execute(command)
        for command in filter(None, map(str.strip, self.init_commands)):
            connection.execute(command)
        return connection

    def create_cursor(self, name: str | None = None) -> Any:
        """A cursor that takes Django's placeholders."""
        if isinstance(self.connection, sqlite3.Connection):
            return super().create_cursor(name)
        return self.connection.cursor(factory=_cursor_class())


@cache
def _cursor_class() -> type:
    """Django's cursor, over the other library's."""

    class CipherCursor(cipher.dbapi().Cursor):  # type: ignore[misc]
        convert_query = vars(base.SQLiteCursorWrapper)["convert_query"]

        def execute(self, query: str, params: Any = None) -> Any:
            """Run it."""
            if params is None:
                return super().execute(query)
            names = list(params) if isinstance(params, Mapping) else None
            return super().execute(self.convert_query(query, param_names=names), params)

        def executemany(self, query: str, param_list: Any) -> Any:
            """Run it for each."""
            peekable, param_list = tee(iter(param_list))
            first = next(peekable, None)
            names = list(first) if first and isinstance(first, Mapping) else None
            return super().executemany(self.convert_query(query, param_names=names), param_list)

    return CipherCursor
