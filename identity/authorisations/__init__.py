"""Authorisations: an application acts for a person, as long as that person's session lasts."""
