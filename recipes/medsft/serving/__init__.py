"""Trained arms in use: merging, export formats, the chat page, the review page."""

import os

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before gradio is imported
