"""Labs 00, 06 and 07: the base model, chat, training and evaluation."""
