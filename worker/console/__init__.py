"""The review console: a web application where users follow runs and graders review images."""
