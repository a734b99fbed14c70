"""From a response to the instruction that could have led to it."""
