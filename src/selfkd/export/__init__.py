"""The deployed network out of a run."""
