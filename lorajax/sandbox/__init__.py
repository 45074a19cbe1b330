"""Model-written programs, run where they can do no harm.

Importing this package is cheap, and has to stay so: every sandboxed program imports it.
"""
