"""Model-written programs, run where they can do no harm: `lorajax.sandbox.runner` is the door.

Importing this package is cheap, and has to stay so: every sandboxed program imports it.
"""

__all__: list[str] = []
