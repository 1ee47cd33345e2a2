"""Grading in a sandbox: student code answers inside, and is judged outside."""
