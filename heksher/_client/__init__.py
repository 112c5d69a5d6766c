"""A client's life, its settings and its updates, written once for all backends.

Ordinary coroutines and pure decisions against the protocols of `heksher.backends.base`. Imports no
HTTP library and no event loop.

Pure decisions:

- `lifecycle`: states and transitions, and which call is refused in which state;
- `history`: failures, and when the next update is due;
- `options`: the client's arguments and their checks;
- `declarations`: what to declare, and what the service's answers mean;
- `splitting`: which requests a query for many settings takes;
- `reading`: from a section of an answer to a rule table;
- `unused`: what is listed of the rules that are not used.

State, guarded by locks; `parts` puts these together:

- `settings`: which settings the client has, and how their declarations went;
- `publishing`: which rules they answer from;
- `connection`: one request and its response;
- `modification_lock`: holds updates back;
- `snapshot`: the rules on disk;
- `files`: the paths of files, and files that others write;
- `overrides`: the overrides that a file gives;
- `home`: the event loop or the threads that the client belongs to.

What happens:

- `core`: start, close, reload, and what a fork does;
- `run`: the update loop, from one start to its end;
- `update`: one update: which requests, in which order, and what is published;
- `file_service`: an update from a file that is the service;
- `declaring`: the declarations of an update;
- `requests`: the requests of an update, and when to give up;
- `forking`: locks and clients when the process forks;
- `stand_ins`: the clock and the random numbers of an application's tests;
- `errors`: how errors are kept.
"""
