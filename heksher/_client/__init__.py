"""A client's life, its settings and its updates, written once for all backends.

Ordinary coroutines and pure decisions against the protocols of `heksher.backends.base`. Imports no
HTTP library and no event loop.
"""
