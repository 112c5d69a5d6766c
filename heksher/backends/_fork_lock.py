"""The lock that a fork waits for: whoever holds it does something that must not be half done in a child.

Only the forking thread exists in a child, so a lock that another thread holds at that moment is never
released there. `heksher._client.forking` takes this lock before each fork. Hold it around calls into
libraries that take locks of their own, such as OpenSSL's. Never take it while you hold a lock that a
fork takes.
"""

import threading

fork_lock = threading.RLock()
