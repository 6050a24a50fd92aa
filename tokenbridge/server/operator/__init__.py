"""What an operator does to a server from the command line. Every change is recorded in the audit trail."""
