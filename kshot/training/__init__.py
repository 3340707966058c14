"""Meta-training: recipes, outer loops, evaluation with intervals."""
