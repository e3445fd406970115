"""Pictures of parametric models with exact landmarks, rendered to train on."""
