"""One module for each lab, each with a tuple `EXERCISES`. The lab states the task, this states what right means."""
