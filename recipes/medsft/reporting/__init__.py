"""results.json, the report, figures, model cards, comparison of studies."""
