"""What a lab starts with, and what sets it up: environment, hardware, JupyterLab, the doctor, a
fair clock.
"""
