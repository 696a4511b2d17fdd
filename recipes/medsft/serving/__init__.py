"""Trained arms in use: merging, export formats, the chat page, the review page."""
