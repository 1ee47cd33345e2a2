"""Checks of the exercises in the labs: `from lab_utils.grading import check`, then `check(my_function)`."""

from lab_utils.grading.checks import CheckReport, Exercise, all_exercises, check, find_exercise

__all__ = ["CheckReport", "Exercise", "all_exercises", "check", "find_exercise"]
