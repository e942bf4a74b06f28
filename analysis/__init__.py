"""What the tables of a study say. Reads tables only: no torch, no Ray, nothing of the trainer."""

from analysis.active_units import active_units_chart, active_units_table

__all__ = ["active_units_chart", "active_units_table"]
