"""Meta-training: recipes, outer loops, evaluation with intervals. ``python -m kshot.training RECIPE --data DIR --out DIR``."""
