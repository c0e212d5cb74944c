"""The pages of the whole system: overview, search of everything, jobs, modules; and the menu."""
