"""The bridge on a person's workstation: one process per user that finds cards, asks for PINs and talks to sites."""
