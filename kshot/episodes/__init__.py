"""Data sets -> episodes: readers per modality, class splits, seeded samplers."""
