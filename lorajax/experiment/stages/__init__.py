"""The stages of a run, one file each: prepare, train, map, evaluate, report.

A stage reads what it needs from the files of the run, calls the library with plain arguments, and
writes whole files. It does what is missing, and returns whether there was anything to do.
"""
