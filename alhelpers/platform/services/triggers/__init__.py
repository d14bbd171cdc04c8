"""What starts a function or a pipeline by itself: an event, or the clock."""
