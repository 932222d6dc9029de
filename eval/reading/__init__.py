"""What each kind of data is read by: text, tables, data sets, token files."""
