"""Does an answer say what it must, and nothing against it? Statements by physicians, judged offline or by a model."""
