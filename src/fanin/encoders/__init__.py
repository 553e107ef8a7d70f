"""Text to vectors: tokenisation and the encoders that turn tokens into x of shape (B, D)."""
