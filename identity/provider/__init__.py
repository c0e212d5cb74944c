"""The OpenID provider: people sign in here, and are known in other applications."""
