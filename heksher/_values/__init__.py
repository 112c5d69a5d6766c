"""Values: Python value <-> JSON value of the service, by type.

Knows no setting, no rule, no client and nothing of the protocol but its types and values (its section 3).
"""
