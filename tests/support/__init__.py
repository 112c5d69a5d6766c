"""Code that tests share: harnesses, scripted services, databases, and servers that misbehave.

pytest collects nothing here, and no module here imports a test.
"""
