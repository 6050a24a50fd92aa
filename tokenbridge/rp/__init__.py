"""The relying party's library: verifies evidence, grades it and decides. Pure: no I/O, clock, thread or randomness."""
