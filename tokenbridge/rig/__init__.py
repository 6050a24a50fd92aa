"""Product code for test benches: virtual card, test PKI, private PC/SC daemon, faults, pytest plugin.

Everything here stands for hardware in tests. Keys lie in ordinary files: never put a card of this package to real use.
"""
