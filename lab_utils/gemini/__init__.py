"""Lab 08: Gemini behind one small interface, its prices and errors, and tuning it as a service."""
