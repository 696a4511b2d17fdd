"""Loading models, counting parameters, and the layers and losses that differ from the libraries."""
