"""What the server keeps, in SQLite or PostgreSQL. No rule of sign-in is decided here."""
