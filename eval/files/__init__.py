"""Folders and files of results: one run at a time in a folder, and no file that is half written."""
