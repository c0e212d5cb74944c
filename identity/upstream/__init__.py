"""Signing in elsewhere: people of this server are signed in by another OpenID provider."""
