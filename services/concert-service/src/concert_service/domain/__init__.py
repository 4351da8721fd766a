"""The pure centre: plans, sale states, the projection of the inventory. No I/O, no clock."""
