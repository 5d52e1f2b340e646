"""Copies of all the clinic owns, and the way back from them.

Two kinds. Every day a copy of the database is put into ``backups/`` beside it (``local``): from it
a start repairs a database that is damaged. And on the sticks that an administrator has chosen lies
everything, encrypted (``store``, ``write``): database, films, models, keys. Films never change and
are named by their digest, so each is copied once. The way back is ``restore``, which verifies all
of it and moves what was there before aside. See docs/adr/0029-backups.md.
"""

from __future__ import annotations

#: The folder on a stick, or wherever a command was told to write.
FOLDER = "clinic-backup"
#: Of one file without films, as the browser saves it.
SUFFIX = ".clinicbackup"

DATABASE = "clinic.sqlite3"
#: Of a clinic whose data are encrypted, the key of its database. It is in no folder, only in here.
DATABASE_KEY = "database.key"
FILMS = "films"
#: What else belongs to the clinic and not to the computer it is on. Left out: ports, logs, what is
#: being received, the key of the certificate for phones, which was promised to be in no backup, and
#: the vault: whoever restores a clinic on another computer has the passphrase of its backups.
FILES = (
    "active.json",
    "audit.key",
    "backup.json",
    "contributions.json",
    "contributions.key",
    "secret.key",
)
TREES = ("releases", "tuf")
#: The note of a restoration that was begun: a start goes on with it.
RESTORATION = "restore.json"
