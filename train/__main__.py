"""Lists the programs: python -m train."""

from train import programs

print(programs.table("train"))
