"""The command line: parse, call, print. Modules import click and the standard library; the rest inside the commands."""
