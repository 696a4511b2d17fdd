"""The memory plan for people: in the terminal, and in the documentation."""
