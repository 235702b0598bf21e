"""The search for the best edit."""
