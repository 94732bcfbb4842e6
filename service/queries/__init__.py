"""From the body of a request to a SampleQuery: one file for each endpoint, and what they share."""
