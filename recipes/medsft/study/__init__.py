"""A study's folder as a whole: what exists by that name, and whether its parts belong together."""
