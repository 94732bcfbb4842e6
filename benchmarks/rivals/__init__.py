"""What latentd is compared with: other servers, set up as their documentation advises, and loops written by hand."""
