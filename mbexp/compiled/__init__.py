"""What machine code is made with, and the structures that compiled loops share; it knows nothing of requests."""
