"""What suites measure of attributions: conservation, perturbation, costs."""
