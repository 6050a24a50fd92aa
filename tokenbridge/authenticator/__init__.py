"""The device side of CTAP 2.1: what a security key does, without I/O, clock, threads or randomness of its own.

`authenticator.Authenticator` answers requests, `hid.HidDevice` puts it behind CTAPHID packets; what they need of the
world is in `ports`. The same code serves any kind of key store.
"""
