"""Run the network: an engine for each library, their selection and their acceptance."""
