"""The review console: a web application in which people look at runs and read images."""
