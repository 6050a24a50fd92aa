"""The host's side of smartcards: what to say to a card, over a link that somebody else opened."""
