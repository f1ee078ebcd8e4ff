"""A disk that can lose its power: a file system for tests that forgets, on command, what nobody had synced.

``disk`` is the model (what programs see, what is on the platter, what is between), ``fuse`` and ``server`` show it to
programs as a mount, ``mount`` is the tests' handle on that, ``replay`` makes every moment of a run come back.
"""
