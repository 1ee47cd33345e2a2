"""What runs on the student's side of the wall: values as arrays, the cells that a function needs,
and the fork server.

Nothing here knows a right answer, and nothing here is believed by the judge: it runs in the
student's process.
"""
