"""Break-glass: access in an emergency, with a reason, for a short time, reviewed afterwards."""
