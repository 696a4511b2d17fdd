"""Everything here that patches a library or uses a private name of one, a module for each library.

Not here, because they replace public methods of single objects: `models.lora_linear` (the forward pass of PEFT's
layers), `models.answer_loss` (that of a model prepared by TRL), and `memory.trace` (its dry run of DeepSpeed).
"""
