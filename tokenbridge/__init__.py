"""tokenbridge: smartcards and security keys as primary factors.

Three things share one vocabulary (see ARCHITECTURE.md): the *bridge* on a person's workstation
(`tokenbridge.daemon`, `tokenbridge.cli`), the *relying party* (`tokenbridge.rp`, `tokenbridge.server`)
and the *rig* for test benches (`tokenbridge.rig`).
"""

__version__ = "0.1.0"
