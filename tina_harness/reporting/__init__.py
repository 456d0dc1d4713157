"""Tables, the live line, plots."""
