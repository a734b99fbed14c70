"""What a person sees and types: the screen, text that grows, the prompt."""
