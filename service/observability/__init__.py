"""What the service writes of itself: a line a request, its log in one form, and spans. See docs/operations.md."""
