"""Sessions: who is signed in where, until when, and ending that everywhere."""
