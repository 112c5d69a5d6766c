"""What the service decides, without I/O: settings, rules, types, declarations, JSON, filters.

Pure. Knows no web framework, no database and no HTTP beyond the statuses that the protocol gives
to refusals.
"""
