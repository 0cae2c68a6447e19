"""Command-line programs: from flags to one library call and its printed result."""
