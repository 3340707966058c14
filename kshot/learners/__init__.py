"""Learners: methods that adapt a checkpoint to a support set. One method per file; `registry` names them."""
