"""One module for each section of the report that has tables and sentences of its own."""
