"""Pure codecs, used by both the host's and the device's side: no I/O, clock or thread."""
