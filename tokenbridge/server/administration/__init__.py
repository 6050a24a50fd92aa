"""What administrators and the help desk do to accounts of others. The pages under `/admin` and the CLI call it."""
