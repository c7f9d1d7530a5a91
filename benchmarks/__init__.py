"""How fast mbexp is, beside other forms of the same simulation and beside other versions of itself."""
