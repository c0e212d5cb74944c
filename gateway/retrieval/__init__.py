"""What C-MOVE and C-GET share: which instances, how they are sent, what is told meanwhile."""
