"""Loads what makes the table. Nothing else belongs here: mypy leaves this file out, as there is
another one of its name in tests/.
"""

pytest_plugins = ["machinery.ratio_table"]
