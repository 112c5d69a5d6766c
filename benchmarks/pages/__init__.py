"""Scripts that write the tables and draw the pictures of docs/performance.md from saved results."""
