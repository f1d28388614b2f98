"""What a user declares: workers, their options and their callbacks, checked."""
