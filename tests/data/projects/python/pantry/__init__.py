"""What is in the kitchen, what runs out, and what to buy."""
