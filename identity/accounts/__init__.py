"""Accounts: people of the staff and citizens, their passwords and their second factor."""
