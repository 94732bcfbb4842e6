"""From a request's body to a SampleQuery: one file per endpoint."""
