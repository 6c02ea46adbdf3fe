"""Audits in the tools that experiments are tracked with: MLflow, Weights & Biases, Lightning."""
