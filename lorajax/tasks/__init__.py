"""Tasks: the table, rows to examples, the draw, scoring, and the sandbox for programs.

Importing this package is cheap, and has to stay so: every sandboxed program imports it.
"""
