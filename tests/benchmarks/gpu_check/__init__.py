"""Check and measure everything that depends on the device, with one command."""
