"""Labs 00, 02 and 03: where the memory of training goes, counted and measured; checkpointing and
paging.
"""
