"""Charts: functions from a table to an `altair.Chart`, without state."""
