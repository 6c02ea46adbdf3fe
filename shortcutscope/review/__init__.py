"""Review: grids in which a person accepts and rejects what was retrieved and drawn."""
