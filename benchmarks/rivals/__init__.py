"""The same model behind other servers, each set up as its documentation advises."""
