"""The lock that a fork waits for.

Only the forking thread exists in a child process. A lock that another thread holds at that moment is
never released in the child, and a thread that needs it there waits without end. The library's own locks
are taken before a fork and released on both sides, see `heksher._client.forking`. Those inside other
libraries cannot be: loading certificates, for example, takes locks of OpenSSL's.

So a thread holds this lock while it makes such a call, and a fork takes this lock first, which means
that it waits until no such call is under way. Never take this lock while you hold a lock that a fork
takes after it: the forking thread would wait for you, and you for it.
"""

import threading

fork_lock = threading.RLock()
