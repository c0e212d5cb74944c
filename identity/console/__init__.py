"""Pages where people administer: organisations, accounts, roles, access, sessions, clients."""
