"""Who did what to whose data: one row or line for every access."""
