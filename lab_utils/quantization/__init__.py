"""Labs 01 and 02: buckets, double quantization, and how numbers are stored in bits."""
