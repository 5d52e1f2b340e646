"""Django's SQLite, and SQLCipher's where the data are encrypted: decided at each connection."""
