"""Human review, votes, an LLM judge, and how far raters agree."""
