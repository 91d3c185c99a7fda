"""Everything to run the connector on one machine: edX sandbox, sample catalogues, host stand-in, Azurite."""
