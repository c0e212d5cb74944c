"""The first start: the account `admin` with a password that is shown once."""
