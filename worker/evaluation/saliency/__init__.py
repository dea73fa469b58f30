"""Ask whether a model's maps can be trusted: where they point, what they say of the grade, what they hang on."""
