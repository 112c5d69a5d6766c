"""What tests share and import: harnesses, scripted services, databases, servers that misbehave.

Nothing here is collected by pytest, and nothing here imports a test.
"""
