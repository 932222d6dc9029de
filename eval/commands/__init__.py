"""What the commands run, from their options to their files."""
