"""Rules, rule tables, and the `get` that is generated from them.

Knows no JSON, no setting, no client and no clock.
"""
