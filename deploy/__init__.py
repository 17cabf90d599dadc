"""What operators install: packages, units, charts, and what watches the agent."""
