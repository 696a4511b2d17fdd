"""Files and hub datasets to dialogues: file formats, row schemas, text dumps."""
