"""Phone numbers of residents: their form, how they are shown, and how they are kept."""
