"""The relying-party server: sign-in over HTTP, its store and its audit trail. It knows nothing of cards and readers."""
