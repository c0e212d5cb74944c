"""Who may do what: organisations, accounts, roles and grants, tokens, the guard of every route."""
