"""Types: how values travel between Python and the JSON of the service.

Knows no setting, no rule, no client and no message of the protocol. The facts are in section 3 of the
protocol, types and values.
"""
