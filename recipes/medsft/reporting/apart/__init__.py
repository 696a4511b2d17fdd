"""Parts of the report that stand apart from the comparison of the arms: other test sets, what answers leave out."""
