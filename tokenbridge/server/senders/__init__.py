"""How messages and calls leave the server: one adapter per service."""
