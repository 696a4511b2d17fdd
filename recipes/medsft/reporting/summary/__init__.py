"""What the report says first: four lines, one picture, safety; and the same for a paper."""
