"""What an instructor runs: labs, tests, demos on stage, releases, the site, grading. Not in the
student edition.
"""
