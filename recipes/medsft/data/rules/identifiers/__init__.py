"""Rules that find identifiers, and how well they do: names, contacts, numbers, dates, places."""
