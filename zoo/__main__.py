"""Lists the programs: python -m zoo."""

from train import programs

print(programs.table("zoo"))
