"""What the site makes of the code while it is built: formulas and reference pages."""
