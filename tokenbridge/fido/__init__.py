"""The host's side of security keys, on python-fido2: what a person does with a key, in the fewest CTAP commands.

Everything here blocks and belongs to the key's worker thread. A `KeySession` is an open key; the other modules are
functions on it, one for each thing a person wants.
"""
