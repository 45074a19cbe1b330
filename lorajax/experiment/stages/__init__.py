"""The stages of a run, one file each: prepare, train, map, evaluate, report.

Every stage is a function of the `Experiment`. It looks at the files of the run, does what is
missing, leaves whole files, and returns whether there was anything to do.
"""
