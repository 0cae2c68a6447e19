"""Command-line programs: flags, a frozen configuration, one library call, a result."""
