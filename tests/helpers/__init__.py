"""What several tests need: small models, toy data and a way to run a command."""
