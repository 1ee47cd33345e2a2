"""Labs 04 and 07: LoRA from scratch, the other PEFT methods, and sweeps over ranks and methods."""
