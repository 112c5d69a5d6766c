"""The plugin for pytest, with the fixtures `heksher_service` and `heksher_stub`.

Where heksher is installed, pytest loads it by itself. Where `PYTEST_DISABLE_PLUGIN_AUTOLOAD` is set,
``-p heksher.pytest_plugin`` does. Knows only where the code is; `_heksher_pytest` says why it is there.
"""

pytest_plugins: list[str] = ["_heksher_pytest"]
