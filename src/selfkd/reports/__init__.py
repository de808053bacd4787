"""Run folders in; tables out."""
