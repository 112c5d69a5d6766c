"""The comparison with other libraries, each in an environment of its own; ``tox -e peers`` runs it."""
