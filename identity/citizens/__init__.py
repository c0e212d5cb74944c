"""Residents, who sign in with a phone number and a code by SMS."""
