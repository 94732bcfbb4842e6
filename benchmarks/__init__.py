"""What is measured, against whom: honest programs, each run by hand."""
