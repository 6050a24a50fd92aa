"""The fallback methods, one file each, behind one protocol."""
