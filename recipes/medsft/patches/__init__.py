"""What patches a library or uses a private name of one, a module for each library.

The dry run of the memory plan has its own, in `memory.trace.library_patches`: it runs in a process apart.
`models.lora_linear` and `models.answer_loss` replace public methods of single objects.
"""
