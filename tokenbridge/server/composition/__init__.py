"""Pieces of the composition root (`server.app`), by what they put together."""
