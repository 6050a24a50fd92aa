"""The self-service portal: pages for people. They parse, call the desks of `server` and show; no rule stands here."""
