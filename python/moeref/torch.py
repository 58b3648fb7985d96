"""The torch operator."""
