"""The helpers behind the parameter-efficient fine-tuning labs: one small module for each idea.

Importing the package loads nothing: torch and its friends are imported by the modules that need
them. `python3 -m lab_utils --help` lists the commands.
"""

__version__ = "1.0.0"

PYTHON_REQUIRED = (3, 10)  # read by __main__, so this file must parse on any Python 3
