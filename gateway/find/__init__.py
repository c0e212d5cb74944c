"""C-FIND, the query half of Query/Retrieve (PS3.4 C.4.1)."""
