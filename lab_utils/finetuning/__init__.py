"""Labs 00, 06, 07 and 09: the base model, chat, training and evaluation."""
