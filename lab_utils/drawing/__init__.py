"""What every picture and demo shares: style, live controls, the quiz. Nothing here knows what is
drawn.
"""
