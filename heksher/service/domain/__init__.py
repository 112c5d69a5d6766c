"""The service's decisions without I/O: settings, rules, types, declarations, JSON, filters.

Pure. Modules in here know no web framework and no database. Of HTTP they know only the status
codes that the protocol assigns to refusals.
"""
