"""Web plumbing: the guard of routes, errors as problem documents, pages, static files."""
